"""Motion: joint positions over time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from motiongpt3.errors import MotionGPT3Error, NotFiniteError
from motiongpt3.motion.signals import interpolate
from motiongpt3.motion.skeleton import HUMANML3D, Float64, Skeleton

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_FRAMES = 200_000
"""More frames than any recording of a person (half an hour at 100 fps); a longer array is a damaged or hostile file."""
MAX_DISTANCE = 1e5
"""Metres: joints that lie farther from the origin are no positions in metres; 100 km, a round number."""


MIN_FPS = 0.001
"""Less than a pose in a quarter of an hour is a damaged number, and makes days of a few frames."""


def check_fps(fps: float) -> None:
    """Refuse a frame rate that no motion can have: MotionGPT3Error unless it is from MIN_FPS to 1000."""
    if not MIN_FPS <= fps <= 1000:
        raise MotionGPT3Error(f"fps must be a number from {MIN_FPS:g} to 1000, not {fps:g}")


@dataclass(frozen=True, eq=False)
class Motion:
    """Joint positions of one person over time; immutable.

    Examples:
        >>> motion = Motion([[[0.0, 1.0, 0.0]] * 22] * 41, caption="wave with the left hand")
        >>> motion[20:].mirror()
        Motion(21 frames, 20 fps, 1.05 s, caption='wave with the right hand')
        >>> motion.resample(30).joints.shape
        (61, 22, 3)

    Args:
        joints: (T, J, 3) positions in metres, y up; stored as read-only float32. The person's left is +x when they
            face +z.
        fps: frames per second.
        caption: what happens, in words.
        name: where it comes from.
        skeleton: the joints' names and tree; the 22 joints of HumanML3D unless said otherwise.

    Raises:
        MotionGPT3Error: the array is not (T, J, 3), has no frames, is not finite, or fps is not from MIN_FPS to 1000.
    """

    joints: NDArray[np.float32]
    fps: float = 20.0
    caption: str | None = None
    name: str | None = None
    skeleton: Skeleton = HUMANML3D

    def __init__(
        self,
        joints: ArrayLike,
        fps: float = 20.0,
        caption: str | None = None,
        name: str | None = None,
        skeleton: Skeleton = HUMANML3D,
    ) -> None:
        try:
            array = np.array(joints, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise MotionGPT3Error(f"joints are not an array of numbers: {error}") from None
        if array.ndim != 3 or array.shape[1:] != (len(skeleton), 3):
            raise MotionGPT3Error(f"joints must have shape (frames, {len(skeleton)}, 3), not {array.shape}")
        if not 1 <= len(array) <= MAX_FRAMES:
            raise MotionGPT3Error(f"a motion has 1 to {MAX_FRAMES} frames, not {len(array)}")
        if not np.isfinite(array).all():
            raise NotFiniteError("joints contain NaN or infinite values")
        if np.abs(array).max() > MAX_DISTANCE:
            raise NotFiniteError("joints lie more than 100 km from the origin; positions are in metres")
        check_fps(fps)
        array.setflags(write=False)
        fields = {"joints": array, "fps": float(fps), "caption": caption, "name": name, "skeleton": skeleton}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.joints)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Motion):
            return NotImplemented
        mine, theirs = ((motion.fps, motion.caption, motion.skeleton) for motion in (self, other))
        return mine == theirs and np.array_equal(self.joints, other.joints)

    def __getitem__(self, frames: slice | int) -> Motion:
        """The frames of a slice, or one frame, as a motion."""
        if not isinstance(frames, slice):
            frame = range(len(self))[frames]
            frames = slice(frame, frame + 1)
        return self.replace(joints=self.joints[frames])

    def __repr__(self) -> str:
        caption = f", caption={self.caption!r}" if self.caption else ""
        return f"Motion({len(self)} frames, {self.fps:g} fps, {self.seconds:.2f} s{caption})"

    @property
    def seconds(self) -> float:
        """Duration in seconds: frames / fps."""
        return len(self) / self.fps

    def replace(self, **changes: object) -> Motion:
        """A copy with some of `joints`, `fps`, `caption`, `name`, `skeleton` changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def places(self, fps: float) -> Float64:
        """(N,) where the frames of another rate lie among this motion's, from 0 to len - 1.

        Raises:
            MotionGPT3Error: fps is not a number from MIN_FPS to 1000, or they are more than MAX_FRAMES.
        """
        check_fps(fps)
        last = len(self) - 1
        if last * fps / self.fps >= MAX_FRAMES:
            raise MotionGPT3Error(f"at {fps:g} fps these {self.seconds:g} s have more than {MAX_FRAMES} frames")
        frames = int(np.floor(last * fps / self.fps + 1e-6)) + 1
        return np.minimum(np.arange(frames) * (self.fps / fps), last)

    def resample(self, fps: float) -> Motion:
        """The same motion at another frame rate, by linear interpolation of positions; the first frame stays.

        This is how motions are read for models. `motion.resample.resampled` goes along a smooth curve.
        """
        if fps == self.fps:
            return self
        return self.replace(joints=interpolate(self.joints, self.places(fps)), fps=fps)

    def mirror(self) -> Motion:
        """Left and right swapped, in the joints and in the caption. Twice is the identity."""
        joints = self.joints[:, self.skeleton.mirror_permutation] * np.array([-1, 1, 1], dtype=np.float32)
        return self.replace(joints=joints, caption=None if self.caption is None else mirror_text(self.caption))

    def save(self, path: str | Path) -> Path:
        """Write to a file; the suffix decides the format. Returns the path."""
        from motiongpt3.formats import save

        return save(self, path)

    @staticmethod
    def load(path: str | Path, **options: Any) -> Motion:
        """Read a file of any known format; `options` are those of `motiongpt3.formats.ReadOptions`."""
        from motiongpt3.formats import load

        return load(path, **options)


_SWAPS = {
    "left": "right", "right": "left", "leftward": "rightward", "rightward": "leftward", "leftwards": "rightwards",
    "rightwards": "leftwards", "clockwise": "counterclockwise", "counterclockwise": "clockwise",
    "lefthand": "righthand", "righthand": "lefthand", "leftmost": "rightmost", "rightmost": "leftmost",
}  # fmt: skip
_SIDE = re.compile(r"\b(" + "|".join(sorted(_SWAPS, key=len, reverse=True)) + r")\b", re.IGNORECASE)


def require_humanml3d(motion: Motion, kind: str) -> None:
    """Raises MotionGPT3Error unless the motion has the 22 joints of HumanML3D."""
    if motion.skeleton.names != HUMANML3D.names:
        raise MotionGPT3Error(f"{kind} files hold the 22 joints of HumanML3D; this motion has other joints")


def mirror_text(text: str) -> str:
    """Swap left and right in a sentence, keeping capitals. Twice is the identity."""

    def swap(match: re.Match[str]) -> str:
        word = match.group(0)
        other = _SWAPS[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _SIDE.sub(swap, text)
