"""Length words: "for three seconds", "with 80 frames"."""

from __future__ import annotations

from typing import Literal

Spelling = Literal["digits", "words", "short", "sec", "number"]

_NUMBERS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_SMALL = _NUMBERS.split()


def spell_seconds(seconds: float, spelling: Spelling = "digits") -> str:
    """A duration to a tenth of a second.

    digits: "3.5 seconds"; words: "three seconds" (a whole number up to twelve, else digits); short: "3.5 s";
    sec: "3.5 sec"; number: "3.5".
    """
    tenths = max(round(seconds * 10), 1)
    number = f"{tenths / 10:g}"
    if spelling == "number":
        return number
    if spelling in ("short", "sec"):
        return f"{number} {'s' if spelling == 'short' else 'sec'}"
    if spelling == "words" and tenths % 10 == 0 and tenths <= 120:
        number = _SMALL[tenths // 10]
    return f"{number} second{'' if tenths == 10 else 's'}"


def spell_frames(frames: int) -> str:
    """ "80 frames", "1 frame"."""
    return f"{frames} frame{'' if frames == 1 else 's'}"
