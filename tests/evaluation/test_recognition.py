"""Captions against recorded motions, with vectors made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motiongpt3.data.clips import Clip
from motiongpt3.evaluation.recognition import recognition

TEXTS = ["a person waves the left hand", "a person waves the right hand", "somebody walks forward", "somebody jumps"]
VECTORS = dict(zip(TEXTS, torch.eye(5), strict=False)) | {"somebody walks backward": torch.eye(5)[4]}


def clips(labels: Sequence[str] = TEXTS) -> list[Clip]:
    return [
        Clip(str(number), "test", 0, 30, (text,), (False,), label=label)
        for number, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ]


def embed(texts: Sequence[str]) -> Tensor:
    return torch.stack([VECTORS[text] for text in texts])


def test_a_perfect_evaluator() -> None:
    motion = embed(TEXTS)
    found = recognition(clips(), motion, motion[[1, 0, 2, 3]], embed, repeats=3)
    assert all(values.shape == (3,) for values in found.values())
    means = {name: float(values.mean()) for name, values in found.items()}
    assert means == {
        "r_precision_1": 1, "r_precision_2": 1, "r_precision_3": 1, "mm_dist": 0, "groups": 1, "side": 1, "mirror": 1,
        "direction": 1,
    }  # fmt: skip


def test_one_that_mistakes_the_sides_and_the_direction() -> None:
    motion = embed([TEXTS[1], TEXTS[0], "somebody walks backward", TEXTS[3]])
    found = recognition(clips(), motion, motion[[1, 0, 2, 3]], embed, repeats=2)
    assert float(found["side"].mean()) == float(found["mirror"].mean()) == float(found["direction"].mean()) == 0
    assert float(found["r_precision_1"].mean()) <= 0.5


def test_one_that_sees_no_difference_is_not_right() -> None:
    same = torch.ones(4, 5) / 5**0.5
    found = recognition(clips(), same, same, embed, repeats=1)
    assert float(found["side"]) == float(found["mirror"]) == float(found["direction"]) == 0


def test_no_group_holds_two_of_a_label() -> None:
    found = recognition(clips(["wave", "wave", "walk", "jump"]), embed(TEXTS), embed(TEXTS), embed, repeats=5)
    assert found["groups"].tolist() == [1] * 5
    assert float(found["r_precision_1"].mean()) == 1
    alone = recognition(clips(["wave"] * 4), embed(TEXTS), embed(TEXTS), embed, repeats=2)
    assert "r_precision_1" not in alone
    assert float(alone["side"].mean()) == 1


def test_without_sides_they_are_not_defined() -> None:
    only = [clips()[3]]
    assert recognition(only, embed(TEXTS[3:]), embed(TEXTS[3:]), embed) == {}
