"""Sentences that say the opposite: left for right, forward for backward. An evaluator must tell them apart."""

from __future__ import annotations

import re

from motiongpt3.motion.motion import mirror_text

_FLIPS = {
    "forward": "backward", "backward": "forward", "forwards": "backwards", "backwards": "forwards",
    "ahead": "backward",
}  # fmt: skip
_DIRECTION = re.compile(r"\b(" + "|".join(sorted(_FLIPS, key=len, reverse=True)) + r")\b", re.IGNORECASE)
_BOTH = re.compile(
    r"\b(forth|back|(?:forwards?|ahead)\b.*\bbackwards?|backwards?\b.*\b(?:forwards?|ahead))\b", re.IGNORECASE
)
_SIDED = re.compile(
    r"\b(left|right|both|forwards?|ahead|backwards?|back|sideways|up|down|clockwise|counterclockwise)\w*\b",
    re.IGNORECASE,
)


def other_side(text: str) -> str | None:
    """The sentence with left and right swapped; None where it names no side."""
    mirrored = mirror_text(text)
    return mirrored if mirrored != text else None


def other_direction(text: str) -> str | None:
    """The sentence with forward and backward swapped; None where it names neither, or both."""
    if _BOTH.search(text) or not _DIRECTION.search(text):
        return None
    return _DIRECTION.sub(lambda found: _FLIPS[found[0].lower()], text)


def sides(text: str) -> tuple[str, ...]:
    """The words of side and direction of a sentence, in order."""
    return tuple(found.lower() for found in _SIDED.findall(text))
