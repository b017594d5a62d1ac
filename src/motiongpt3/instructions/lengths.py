"""Length words: "for three seconds", "with 80 frames"; reading and spelling them."""

from __future__ import annotations

import re
from typing import Literal

Spelling = Literal["digits", "words", "short", "sec", "number"]

_ONES_LIST = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS_LIST = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = _ONES_LIST.split()
_TENS = {word: 10 * i for i, word in enumerate(_TENS_LIST.split(), 2)}
_WORDS = {word: i for i, word in enumerate(_ONES)} | _TENS | {"hundred": 100, "half": 0.5}

_TENS_WORD, _ONES_WORD = "|".join(_TENS), "|".join(_ONES)
_NUMBER = rf"""(?:
    \d+(?:\.\d+)? | \.\d+
  | half
  | (?:(?:a|one|two|three)\s+hundred(?:\s+and)?\s+)?
    (?:(?:{_TENS_WORD})[\s-](?:{_ONES_WORD})|{_TENS_WORD}|{_ONES_WORD})(?:\s+and\s+a\s+half)?
  | (?:a|one|two|three)\s+hundred
)"""
_LENGTH = re.compile(
    rf"""
    (?<![\w.:/])(?P<number>{_NUMBER})(?P<gap>[\s-]*)(?:an?\s+)?
    (?P<unit>seconds?|secs?|s|minutes?|mins?|frames?)\b
    (?!\s*(?:per|/|a)\s*(?:seconds?|s\b|minutes?)|\s+(?:later|earlier|before|after|ago|apart|into|each|mark|place|time|
        step|steps|try|attempt|gap|pause|break|rest|delay|hold|wait)\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PART = re.compile(
    r"(\b(after|every|each|last|first|next|final|another|other|than|least|most|until|from|at|per)"
    r"|\b(to|or|and|between)|\d\s*[-–])\s*(about\s+|around\s+|the\s+)?$",
    re.IGNORECASE,
)
"""Before a number: it speaks of a part, a moment or a range, not of the whole."""
_ADVERBIAL = re.compile(r"\b(for|in|over|within|during)\s+(about\s+|around\s+|roughly\s+|exactly\s+|some\s+)?$", re.I)
_SEVERAL = re.compile(r"\b(then|before|after\w*|until|while|finally|next|followed)\b|\.\s+\w|;", re.IGNORECASE)
_PAUSE = re.compile(
    r"\b(pauses?|pausing|stops?|stopping|waits?|waiting|holds?|holding|rests?|resting|freezes?|freezing|stays?|staying|"
    r"still|halts?|keeps?|keeping)\b",
    re.IGNORECASE,
)


def parse_length(text: str, fps: float = 20.0) -> float | None:
    """The duration in seconds that a prompt asks of the whole motion, or None.

    "for three seconds", "with 80 frames" (at `fps`), "3.5 sec" and "half a second" are lengths. No lengths are numbers
    of something else ("three steps", "90 degrees"), moments and parts ("two seconds later", "the first second"), rates
    ("30 frames per second"), and the share of one of several actions ("walks, then waves for two seconds", "pauses
    for a second"). A text with two different lengths has none.
    """
    found = {length for match in _LENGTH.finditer(text) if (length := _whole(text, match, fps)) is not None}
    several = {match["number"].lower() for match in _LENGTH.finditer(text)}
    return found.pop() if len(found) == 1 and len(several) == 1 else None


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
        number = _ONES[tenths // 10]
    return f"{number} second{'' if tenths == 10 else 's'}"


def spell_frames(frames: int) -> str:
    """ "80 frames", "1 frame"."""
    return f"{frames} frame{'' if frames == 1 else 's'}"


def _whole(text: str, match: re.Match[str], fps: float) -> float | None:
    """The seconds of a number with its unit, where it speaks of the whole motion."""
    before, after = text[: match.start()], text[match.end() :]
    unit = match["unit"].lower()
    digits = match["number"][0].isdigit() or match["number"][0] == "."
    if unit == "s" and (not digits or (not match["gap"] and re.fullmatch("[2-9]0", match["number"]))):
        return None  # "the 80s" is no length
    if unit == "second" and _value(match["number"]) > 1 and match["gap"] == " " and not re.match(r"\s+\w", after):
        return None  # "three second" alone means nothing
    if _PART.search(before):
        return None
    adverbial = _ADVERBIAL.search(before)
    others = text[: match.start()] + " " + after
    if adverbial and (_SEVERAL.search(others) or _PAUSE.search(re.split(r"[,;.]|\band\b", before)[-1])):
        return None
    length = _value(match["number"])
    if unit.startswith("frame"):
        return length / fps
    return length * (60 if unit.startswith("min") else 1)


def _value(number: str) -> float:
    """The number that digits or words name."""
    words = re.sub(r"[\s-]+", " ", number.lower()).split(" ")
    if words[0][0].isdigit() or words[0][0] == ".":
        return float(words[0])
    total = 0.0
    for word in words:
        if word == "hundred":
            total = max(total, 1) * 100
        elif word not in ("a", "and"):
            total += _WORDS[word]
    return total
