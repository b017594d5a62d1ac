"""Plain conversation to train on: the untouched text backbone answers our questions.

No corpus of conversations ships with the package; what keeps the language from fading is the model's own.

    python scripts/make_text_turns.py src/motiongpt3/instructions/templates/text_turns.yaml
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from motiongpt3.instructions.prompt import Message, Style, chat_pieces
from motiongpt3.instructions.templates import questions
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, stop_tokens
from motiongpt3.models.sequence import pad_ids
from motiongpt3.serialization import atomic_path

MAX_TOKENS = 60
_SENTENCE_END = re.compile(r"(?<![0-9])[.!?][\"')]*(?=\s|$)")


def write_text_turns(
    path: Path, backbone: TextBackbone, texts: Sequence[str], style: Style = "chatml", batch: int = 32
) -> int:
    """Write the backbone's greedy answers to questions as YAML; returns how many it gave a whole sentence to.

    Raises MotionGPT3Error where the file cannot be written.
    """
    turns: dict[str, str] = {}
    for begin in tqdm(range(0, len(texts), batch), "answering", disable=None):
        part = texts[begin : begin + batch]
        for question, (answer, ended) in zip(part, greedy_answers(backbone, part, style), strict=True):
            kept = answer.strip() if ended else whole_sentences(answer)
            if kept:
                turns[question] = kept
    with atomic_path(path) as temporary:
        head = "# Written by `python scripts/make_text_turns.py`: the untouched backbone's greedy answers.\n"
        temporary.write_text(
            head + yaml.safe_dump(turns, allow_unicode=True, sort_keys=False, width=120), encoding="utf-8"
        )
    return len(turns)


@torch.no_grad()
def greedy_answers(
    backbone: TextBackbone, texts: Sequence[str], style: Style, max_tokens: int = MAX_TOKENS
) -> Iterator[tuple[str, bool]]:
    """The answers to one batch of questions, and whether each came to its own end within `max_tokens`."""
    prompts = ["".join(map(str, chat_pieces([Message("user", (text,))], style))) for text in texts]
    ids, mask = pad_ids(backbone.tokenize(prompts), backbone.pad_id)
    text_only = BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8)), 0)
    cache = KVCache()
    hidden, _ = text_only(Tokens.of(backbone.embed(ids), mask), None, cache)
    assert hidden is not None
    decoding = GenerationConfig(max_tokens, forbidden=(backbone.start_of_motion, backbone.end_of_motion))
    logits = backbone.logits_after(hidden, mask)
    answers = TextDecoder(backbone, text_only).generate(
        logits, cache, mask.sum(1), decoding, stop_tokens(backbone, style)
    )
    return ((backbone.decode(row), ended is not None) for row, ended in answers)


def whole_sentences(text: str) -> str:
    """A cut text up to the end of its last whole sentence; empty without one. The "1." of a list ends none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = write_text_turns(Path(sys.argv[1]), load_backbone(dtype=torch.float32).freeze(), questions())
    sys.stdout.write(f"{count} of {len(questions())} questions answered\n")
