"""Opposites of sentences."""

from __future__ import annotations

import pytest

from motiongpt3.evaluation.contrasts import other_direction, other_side, sides


@pytest.mark.parametrize(
    ("text", "side", "direction"),
    [
        ("a person walks forward.", None, "a person walks backward."),
        ("somebody walks backwards", None, "somebody walks forwards"),
        ("the figure jogs ahead.", None, "the figure jogs backward."),
        ("a person raises the left hand.", "a person raises the right hand.", None),
        ("someone steps forward with the right foot", *["someone steps forward with the left foot"],
         "someone steps backward with the right foot"),
        ("a person walks back and forth", None, None),
        ("a person goes forward, then backward", None, None),
        ("a person swings the leg forward and back", None, None),
        ("somebody jumps", None, None),
    ],
)  # fmt: skip
def test_opposites(text: str, side: str | None, direction: str | None) -> None:
    assert other_side(text) == side
    assert other_direction(text) == direction


def test_sides_are_told_in_order() -> None:
    assert sides("Left, then right.") == ("left", "right") != sides("right, then left")
    assert sides("a person walks ahead") != sides("a person walks backward") != sides("a person walks")
    assert sides("somebody waves") == ()
