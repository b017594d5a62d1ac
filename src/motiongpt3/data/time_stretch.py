"""The same motion, made longer, and which of its captions stay true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from motiongpt3.data.captions import counts
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import best_cut, hold_pose, join
from motiongpt3.motion.poses import heading
from motiongpt3.motion.skeleton import Array

Mode = Literal["loop", "repeat", "hold"]
_FPS = 20
"""Frames per second of all clips that training reads."""
_TRAVEL = 0.5
"""Metres per second: whoever is faster walks or runs; below are steps on the spot. Chosen by eye."""


def speed(joints: Array) -> float:
    """Straight-line speed of the pelvis over the ground in metres per second."""
    if len(joints) < 2:
        return 0.0
    return float(np.linalg.norm((joints[-1, 0] - joints[0, 0])[[0, 2]])) * _FPS / (len(joints) - 1)


def turning(joints: Array) -> float:
    """How far the person has turned from the first frame to the last, in radians; left is positive."""
    yaw = np.unwrap(heading(joints))
    edge = min(3, len(yaw))
    return float(yaw[-edge:].mean() - yaw[:edge].mean())


def modes(joints: Array) -> tuple[Mode, ...]:
    """How a motion can be made longer: walks and runs straight on loop; gestures that end as they begin repeat or hold.

    A motion that ends in another pose, or turns, can only be held, and only if it ends slowly; else there is no way.
    """
    if speed(joints) > _TRAVEL:
        return ("loop",) if abs(turning(joints)) < 0.4 and len(joints) >= 20 else ()
    if len(joints) > 1 and np.linalg.norm(joints[-1, 0] - joints[-2, 0]) * _FPS > 0.6:
        return ()
    first, last = joints[0] - joints[0, 0], joints[-1] - joints[-1, 0]
    back = abs(turning(joints)) < 0.3 and float(np.linalg.norm(first - last, axis=-1).mean()) < 0.12
    return ("hold", "repeat") if back else ("hold",)


def extend(joints: Array, frames: int, rng: np.random.Generator, mode: Mode | None = None) -> tuple[Array, Mode] | None:
    """A motion made longer: exactly `frames` frames and how it was done, or None where that makes no sense.

    Args:
        joints: (T, 22, 3) metres, T <= frames.
        frames: wanted length.
        rng: chooses among the possible modes, and how a hold is shared between start and end.
        mode: "loop" goes on walking or running, "repeat" does it again, "hold" waits before and after.
    """
    if len(joints) > frames:
        raise MotionGPT3Error(f"cannot extend {len(joints)} frames to {frames}")
    possible = modes(joints)
    if mode is None:
        if not possible:
            return None
        mode = possible[int(rng.integers(len(possible)))]
    if len(joints) == frames:
        return joints.astype(np.float32), mode
    out = joints
    if mode == "loop":
        slack = min(24, len(joints) // 3)
        end, start = best_cut(joints, joints, slack, slack)
        cycle = joints[:end]
        out = cycle
        while len(out) < frames:
            out = join(out, joints[start:end])
    elif mode == "repeat":
        while len(out) + len(joints) <= frames:
            out = join(out, joints)
    missing = frames - len(out)
    if missing > 0:
        before = int(rng.integers(missing // 2 + 1)) if mode == "hold" else 0
        phase = float(rng.uniform(0, 2 * np.pi))
        if before:
            out = join(hold_pose(out[0], before, phase=phase), out)
        if missing > before:
            out = join(out, hold_pose(out[-1], missing - before, phase=phase))
    return out[:frames].astype(np.float32), mode


def lasting_captions(captions: Sequence[str], crop_safe: Sequence[bool], mode: Mode) -> list[str]:
    """The captions that stay true of a motion extended by `mode`.

    A loop keeps what is true of any part and counts nothing; repeating and holding keep what does not count.
    """
    safe = crop_safe if mode == "loop" else [True] * len(captions)
    return [text for text, ok in zip(captions, safe, strict=True) if ok and not counts(text)]
