"""Prompts: cleaned as captions are written, bounded, and wrapped for the language model."""

from __future__ import annotations

import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import MAX_CHARACTERS, clean_prompt, generation_prompt


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("A person walks", "a person walks."),
        ("  a\tperson\n\nwalks .", "a person walks ."),
        ("Stop!", "stop!"),
        ("what now?", "what now?"),
        ("a person\x00 walks\u200b on\u202e", "a person walks on."),
        ("3 jumps", "3 jumps."),
        ("Überschlag, à la carte", "überschlag, à la carte."),
    ],
)
def test_cleaning(text: str, clean: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clean_prompt(text) == clean


@pytest.mark.parametrize("text", ["", "  \n\t", "...", "\x00\u200b", "?!", "-"])
def test_nothing_to_read_is_refused(text: str) -> None:
    with pytest.raises(MotionGPT3Error, match=r"is empty|has no words") as caught:
        clean_prompt(text)
    assert "\n" not in str(caught.value)


def test_length_is_bounded() -> None:
    clean_prompt("a" * MAX_CHARACTERS)
    for text in ("a" * (MAX_CHARACTERS + 1), "walk " * 20_000):
        with pytest.raises(MotionGPT3Error, match=f"{len(text)} characters") as caught:
            clean_prompt(text)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["一个人向前走", "человек идёт", "人 go 一个人向前走", "हाथ हिलाना"])
def test_another_script_is_warned_about(text: str) -> None:
    with pytest.warns(UserWarning, match="trained on English"):
        assert clean_prompt(text).endswith(".")


@given(st.text(max_size=60))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clean = clean_prompt(text)
        except MotionGPT3Error:
            return
        assert clean_prompt(clean) == clean
    assert clean == clean.strip()
    assert "  " not in clean
    assert not any(unicodedata.category(c).startswith("C") for c in clean)


def test_wrapping() -> None:
    assert generation_prompt("walk.", "plain") == "\nwalk.\n"
    wrapped = generation_prompt("walk.", "chatml")
    assert wrapped == "<|im_start|>user\nwalk.<|im_end|>\n<|im_start|>assistant\n"
