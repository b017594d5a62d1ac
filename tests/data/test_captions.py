"""Captions taken apart, and the sentences made of their parts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from motiongpt3.data.captions import (
    LOWER_ONLY,
    UPPER_ONLY,
    finite_predicate,
    gerund,
    join_predicates,
    layer_predicates,
)
from motiongpt3.motion.motion import mirror_text


@pytest.mark.parametrize(
    ("caption", "predicate"),
    [
        ("a person walks forward.", "walks forward"),
        ("Someone is walking around a corner.", "walks around a corner"),
        ("a standing person waves both hands.", "waves both hands"),
        ("an individual frailly walks on.", "frailly walks on"),
        ("the human figure runs, then stops.", "runs, then stops"),
    ],
)
def test_the_subject_is_taken_off(caption: str, predicate: str) -> None:
    assert finite_predicate(caption) == predicate


@pytest.mark.parametrize(
    "caption",
    [
        "looking young and carefree, a human walks.",
        "after a short pause, a person waves.",
        "someone full of energy raises the right hand.",
        "someone who is tired walks.",
        "a man bends his knees.",
        "a person is kicking with the left foot and stepping back.",
        "",
        "walks",
    ],
)
def test_what_cannot_be_cut_has_no_predicate(caption: str) -> None:
    assert finite_predicate(caption) is None


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("waves with the right hand", "waving with the right hand"),
        ("sits down", "sitting down"),
        ("lies down", "lying down"),
        ("reaches up", "reaching up"),
        ("goes for a run", "going for a run"),
        ("does a squat", "doing a squat"),
        ("raises the left arm", "raising the left arm"),
        ("hurries along", "hurrying along"),
        ("walks and turns", None),
        ("flurbs about", None),
    ],
)
def test_gerund(predicate: str, expected: str | None) -> None:
    assert gerund(predicate) == expected


def test_joined_sentences_have_one_subject_and_keep_the_order() -> None:
    rng = np.random.default_rng(0)
    first, second = "walks forward", "waves with the right hand"
    seen = {join_predicates("a person", first, second, rng) for _ in range(200)}
    assert len(seen) >= 6
    for text in seen:
        assert text.endswith(".")
        assert ".." not in text
        walk, wave = re.search(r"walk(s|ing)", text), re.search(r"wav(es|ing)", text)
        assert walk is not None
        assert wave is not None
        assert walk.start() < wave.start(), text
    assert "a person walks forward and then waves with the right hand." in seen


def test_layered_sentences_say_both_at_once() -> None:
    rng = np.random.default_rng(0)
    seen = {layer_predicates("the person", "walks forward", "waves both hands", rng) for _ in range(200)}
    assert "the person walks forward while waving both hands." in seen
    assert "the person walks forward and waves both hands." in seen
    assert all(text is not None and " then " not in text for text in seen)
    assert LOWER_ONLY.search("walks, swinging both arms")
    assert UPPER_ONLY.search("waves while standing still")
    assert layer_predicates("a person", "walks and turns", "waves and bows", rng) is None


def test_mirrored_sentences_still_parse() -> None:
    rng = np.random.default_rng(3)
    text = join_predicates("a person", "turns left", "waves the right hand", rng)
    mirrored = mirror_text(text)
    assert "right" in mirrored.split("hand")[0]
    assert mirror_text(mirrored) == text
