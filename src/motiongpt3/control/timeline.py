"""Timelines: what happens when, and with which part of the body, as STMC writes them.

A line is `TEXT # START # END # part # part`, times in seconds; an empty line begins the next timeline. Parts are left
arm, right arm, legs, head and spine. Intervals may overlap when their parts differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import read_text

PARTS = ("left arm", "right arm", "legs", "head", "spine")
_ALIASES = {
    "left hand": "left arm", "right hand": "right arm", "left leg": "legs", "right leg": "legs", "feet": "legs",
    "neck": "head", "torso": "spine", "trunk": "spine",
}  # fmt: skip
_MAX_BYTES = 2**22  # 4 MB: the 500 timelines of STMC's benchmark have 100 kB
_MAX_TRACKS, _MAX_SECONDS, _MAX_TEXT = 10_000, 3600.0, 2000


@dataclass(frozen=True)
class Track:
    """What a part of the body does from when to when.

    Attributes:
        text: what happens.
        start: seconds.
        end: seconds.
        parts: of `PARTS`.
    """

    text: str
    start: float
    end: float
    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip() or len(self.text) > _MAX_TEXT:
            raise MotionGPT3Error(f"a track says what happens in 1 to {_MAX_TEXT} characters")
        if not 0 <= self.start < self.end <= _MAX_SECONDS:
            raise MotionGPT3Error(
                f"track {self.text[:40]!r} must end after it starts, within an hour, not go {self.start} to {self.end}"
            )
        parts = tuple(dict.fromkeys(part_name(part) for part in self.parts))
        if not parts:
            raise MotionGPT3Error(f"track {self.text[:40]!r} names no part of the body: {', '.join(PARTS)}")
        object.__setattr__(self, "parts", parts)


def part_name(name: str) -> str:
    """One of `PARTS` by its name or another: "left_arm", "torso", "neck".

    Raises:
        MotionGPT3Error: there is none.
    """
    plain = " ".join(str(name).replace("_", " ").replace("-", " ").lower().split())
    plain = _ALIASES.get(plain, plain)
    if plain not in PARTS:
        raise MotionGPT3Error(f"no part {str(name)[:40]!r} of the body: there are {', '.join((*PARTS, *_ALIASES))}")
    return plain


def load_timelines(path: str | Path) -> list[list[Track]]:
    """All timelines of a file.

    Raises:
        MotionGPT3Error: no such file, a line that is none, or tracks that collide.
    """
    file = Path(path)
    found: list[list[Track]] = [[]]
    for number, line in enumerate(read_text(file, _MAX_BYTES).splitlines(), start=1):
        if not line.strip():
            found.append([])
            continue
        text, *rest = (field.strip() for field in line.split("#"))
        try:
            if len(rest) < 3:
                raise MotionGPT3Error("it should be TEXT # START # END # part")
            try:
                start, end = float(rest[0]), float(rest[1])
            except ValueError:
                raise MotionGPT3Error(f"{rest[0][:20]!r} and {rest[1][:20]!r} should be seconds") from None
            found[-1].append(Track(text, start, end, tuple(rest[2:])))
        except MotionGPT3Error as error:
            raise MotionGPT3Error(f"{file.name}, line {number}: {error}") from None
        if number > _MAX_TRACKS:
            raise MotionGPT3Error(f"{file.name} has more than {_MAX_TRACKS} lines")
    timelines = [tracks for tracks in found if tracks]
    if not timelines:
        raise MotionGPT3Error(f"{file.name} has no track: a line is TEXT # START # END # part")
    for tracks in timelines:
        check_tracks(tracks)
    return timelines


def load_timeline(path: str | Path) -> list[Track]:
    """The tracks of a file with one timeline.

    Raises:
        MotionGPT3Error: there are several, or `load_timelines` refuses it.
    """
    timelines = load_timelines(path)
    if len(timelines) > 1:
        raise MotionGPT3Error(f"{Path(path).name} has {len(timelines)} timelines, one after each empty line: give one")
    return timelines[0]


def save_timelines(timelines: Sequence[Sequence[Track]], path: str | Path) -> Path:
    """Write timelines; returns the path."""

    def line(track: Track) -> str:
        return " # ".join(
            [" ".join(track.text.replace("#", " ").split()), f"{track.start:g}", f"{track.end:g}", *track.parts]
        )

    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join("\n".join(map(line, tracks)) for tracks in timelines) + "\n", encoding="utf-8")
    return Path(path)


def check_tracks(tracks: Sequence[Track]) -> None:
    """Refuse tracks that want the same part at the same time: MotionGPT3Error, with the parts and the seconds."""
    for part in PARTS:
        own = sorted((track for track in tracks if part in track.parts), key=lambda track: track.start)
        for one, other in pairwise(own):
            if (both := one.end - other.start) > 1e-9:
                when = f"for {both:g} s from {other.start:g} s on"
                raise MotionGPT3Error(f"{one.text[:40]!r} and {other.text[:40]!r} both want the {part} {when}")
