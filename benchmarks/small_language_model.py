"""A small language model for experiments: a byte-pair vocabulary and a Llama of 6 million weights, in minutes of a CPU.

    python benchmarks/small_language_model.py data/mocap/packed.safetensors runs/experiments/small_lm [--steps 2500]

It reads what the stages of training ask and answer (`instructions/templates`), with the captions of the train split and
without motions. What comes out is a folder that `model.backbone` of a configuration can name.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from motiongpt3.data.clips import PackedClips
from motiongpt3.instructions.prompt import clean_prompt, generation_prompt, turn_end
from motiongpt3.instructions.templates import TASKS, build, phrasings, text_prompt, text_turns
from motiongpt3.motion.motion import mirror_text

END = turn_end("chatml")
SPECIAL = ["<|endoftext|>", "<|im_start|>", END]
ROW = 128
"""Tokens of a training row, in which texts follow one another."""


def captions_of(packed: Path) -> list[str]:
    """The captions of the train split and of its mirror images."""
    clips = [clip for clip in PackedClips.open(packed).clips if clip.split == "train"]
    own = sorted({clean_prompt(text) for clip in clips for text in clip.captions})
    return sorted({*own, *map(mirror_text, own)})


def texts(captions: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Questions and answers of all tasks without their motions, bare captions and plain conversation, without end."""
    turns = text_turns()
    while True:
        caption, kind = captions[int(rng.integers(len(captions)))], rng.random()
        if kind < 0.25:
            yield generation_prompt(caption, "chatml") + END
            continue
        if kind < 0.35:
            prompt = text_prompt(*turns[int(rng.integers(len(turns)))], "chatml")
        else:
            task = TASKS[int(rng.integers(len(TASKS)))]
            stage = 2 if phrasings(task).short and rng.random() < 0.5 else 3
            prompt = build(task, "chatml", rng, stage=stage, caption=caption, frames=int(rng.integers(20, 201)))
        yield "".join(piece for piece in (*prompt.question, *prompt.answer) if isinstance(piece, str))


def train_tokenizer(samples: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level pairs, so that any text can be read."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(samples, trainer)
    return tokenizer


def rows(tokenizer: Tokenizer, source: Iterator[str], batch: int) -> Iterator[torch.Tensor]:
    """Batches (batch, ROW) of token ids."""
    ids: list[int] = []
    while True:
        while len(ids) < batch * ROW:
            ids += tokenizer.encode(next(source)).ids
        yield torch.tensor(ids[: batch * ROW]).view(batch, ROW)
        ids = ids[batch * ROW :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=16, help=f"rows of {ROW} tokens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    source = texts(captions_of(options.packed), rng)
    tokenizer = train_tokenizer([next(source) for _ in range(20_000)], vocabulary=2048)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # the fused kernel's backward pass is slow in bfloat16 on CPUs
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    warmup = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1.0, i / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, i / options.steps))),
    )
    started, batches, recent = time.monotonic(), rows(tokenizer, source, options.batch), []
    for step in range(1, options.steps + 1):
        ids = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 250 == 0 or step == options.steps:
            seconds = time.monotonic() - started
            print(f"step {step}: {np.mean(recent[-250:]):.3f} nats a token, {seconds:.0f} s", flush=True)
    model.save_pretrained(options.out)
    tokenizer.save(str(options.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
