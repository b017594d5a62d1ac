"""Prompts of the official code, letter by letter and token by token."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from motiongpt3.official import holders as prompts
from motiongpt3.official.convert import read_tokenizer_folder
from motiongpt3.official.holders import token_ids

Read = Callable[[str], Any]
GPT2_WORDS = {
    64: "a", 1048: " person", 11114: " walks", 2651: " forward", 220: " ", 198: "\n", 8645: "Gener", 378: "ate",
    6268: " motion", 25: ":", 366: ' "', 1: '"', 2420: " text", 257: " a", 20988: "Complete", 262: " the",
    29229: " masked", 50256: "<|endoftext|>",
}  # fmt: skip
"""Words of GPT-2 that the recorded strings are made of; GPT2_TOKENIZER, a folder with vocab.json, brings all."""


class Backbone:
    """What `token_ids` needs of a text stream."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, eos_id: int) -> None:
        self.tokenizer, self.vocabulary, self.eos_id = tokenizer, vocabulary, eos_id

    def ids(self, text: str) -> list[int]:
        numbers: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return numbers


def some_of_gpt2() -> Tokenizer:
    """A byte-level tokenizer that cuts as GPT-2 does and knows GPT2_WORDS, under GPT-2's ids."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled = {number: splitter.pre_tokenize_str(word) for number, word in GPT2_WORDS.items()}
    vocabulary = {piece: number for number, pieces in spelled.items() for piece, _ in pieces if len(pieces) == 1}
    merges = []
    for word in list(vocabulary):
        for end in range(1, len(word)):
            vocabulary.setdefault(word[end], 60_000 + len(vocabulary))
            vocabulary.setdefault(word[0], 60_000 + len(vocabulary))
            vocabulary.setdefault(word[: end + 1], 60_000 + len(vocabulary))
            if (word[:end], word[end]) not in merges:
                merges.append((word[:end], word[end]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.ByteLevel()
    return tokenizer


def test_templates(read: Read) -> None:
    recorded = read("lm_templates.json")
    holders = recorded["input_motion_holder_seq"].count(prompts.MOTION_TOKENS[prompts.INPUT_KIND])
    assert prompts.given_motion(holders) == recorded["input_motion_holder_seq"]
    assert prompts.asked_motion(holders) == recorded["output_motion_holder_seq"]
    assert prompts.MOTION_TOKENS[prompts.MASKED_KIND] * holders == recorded["masked_holder_seq"]
    checked = 0
    for task in ("t2m", "m2t", "predict", "inbetween"):
        if task not in recorded:
            continue
        example = recorded[task]
        caption = (example["inputs"] if task == "t2m" else example["outputs"])[0]
        asked = prompts.official_prompt(task, caption, holders, "default")
        answer = f" {caption}" if task == "m2t" else ""
        assert asked + answer + prompts.TEXT_END == example["label"]
        assert f"{example['inputs'][0]} \n {example['outputs'][0]}{prompts.TEXT_END}" == example["label"]
        checked += 1
    assert checked


def test_token_ids_of_gpt2(read: Read) -> None:
    recorded = read("gpt2_tokenization.json")
    special = recorded["special"]
    vocabulary = special[prompts.START]
    if folder := os.environ.get("GPT2_TOKENIZER"):
        tokenizer, _ = read_tokenizer_folder(Path(folder))
    else:
        words = {number for ids in recorded["examples"].values() for number in ids if number < vocabulary}
        if words - GPT2_WORDS.keys():
            pytest.skip("set GPT2_TOKENIZER: the strings have further words")
        tokenizer = some_of_gpt2()
    backbone: Any = Backbone(tokenizer, vocabulary, special[prompts.TEXT_END])
    for name, number in special.items():
        assert token_ids(backbone, name) == [number]
    for text, ids in recorded["examples"].items():
        assert token_ids(backbone, text) == ids


@pytest.mark.parametrize(
    ("task", "profile", "text"),
    [
        ("t2m", "official", "Generate motion: a man jumps \n \n {asked}"),
        ("t2m", "default", "a man jumps \n {asked}"),
        ("m2t", "official", "Generate text: {given} \n \n"),
        ("m2t", "default", "{given} \n"),
        ("predict", "official", "Predict motion: {given} \n \n {asked}"),
        ("predict", "default", "Predict motion: {given} \n {asked}"),
        ("inbetween", "default", "Complete the masked motion: {given}{hidden}{given} \n {asked}"),
    ],
)
def test_questions(task: Any, profile: Any, text: str) -> None:
    """The official profile asks as the official evaluation does, the default one as its training did."""
    pieces = {
        "given": prompts.given_motion(2),
        "asked": prompts.asked_motion(2),
        "hidden": prompts.MOTION_TOKENS[prompts.MASKED_KIND] * 2,
    }
    assert prompts.official_prompt(task, "a man jumps", 2, profile) == text.format(**pieces)
