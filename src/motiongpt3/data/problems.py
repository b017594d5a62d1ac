"""What can be wrong with a clip: one judgement for `prepare`, which skips, and `check`, which reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

MAX_SPEED = 20.0
"""Metres per second; a joint that is faster has jumped (a thrown ball leaves the hand at 15 to 25)."""
SAME_MOTION = 0.0005
"""Metres; clips of about one length whose coordinates differ less on average are one recording."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or a clip.

    Attributes:
        file: the file, or file and clip.
        reason: what is wrong, in one line.
        severity: an error makes the data wrong or a result untrue; a warning is worth knowing.
    """

    file: str
    reason: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.reason}"


def joint_problems(
    file: str, joints: NDArray[np.float32], fps: float = 20.0, skeleton: Skeleton = HUMANML3D
) -> list[Problem]:
    """What is wrong with the joints of one clip: shape, numbers, unit, axis (errors); jumps, place (warnings).

    Args:
        file: what to call the clip.
        joints: any array; should be (T, J, 3), metres, y up, frame 0 over the origin and facing +z.
        fps: frames per second.
        skeleton: whose bone lengths are expected, within a factor of two.
    """
    if joints.ndim != 3 or joints.shape[1:] != (len(skeleton), 3) or not len(joints):
        return [Problem(file, f"joints have shape {joints.shape}, not (frames, {len(skeleton)}, 3)")]
    bad = ~np.isfinite(joints).all(axis=(1, 2))
    if bad.any():
        return [Problem(file, f"NaN or infinite values, first in frame {int(bad.argmax())}")]
    values = joints.astype(np.float64)
    bones = np.linalg.norm(values[:, 1:] - values[:, list(skeleton.parents[1:])], axis=-1)
    size = float(np.median(bones.sum(-1)) / skeleton.bone_lengths.sum())
    if not 0.5 < size < 2:
        return [Problem(file, f"bones are {size:.3g} times the usual length{_unit(size)}")]
    if _z_up(values, skeleton):
        return [Problem(file, "z is up; y should be: turn the joints by -90 degrees about x")]
    return [Problem(file, reason, "warning") for reason in _oddities(values, fps, skeleton)]


def _unit(size: float) -> str:
    for name, factor in (("centimetres", 100), ("millimetres", 1000), ("inches", 39.37), ("kilometres", 0.001)):
        if 0.5 < size / factor < 2:
            return f": the unit is probably {name}, not metres"
    return ""


def _z_up(joints: NDArray[np.float64], skeleton: Skeleton) -> bool:
    """A body upright along z with its feet near z = 0; one that lies along z starts with its pelvis there."""
    head = joints[:, _head(skeleton)]
    ankles = joints[:, [skeleton.contacts[0], skeleton.contacts[2]]].mean(1)
    upright = np.abs(head - ankles) / np.maximum(np.linalg.norm(head - ankles, axis=-1, keepdims=True), 1e-9)
    floor = np.abs(np.percentile(joints[..., 2].min(1), 10))
    return bool(np.median(upright[:, 2]) > 0.8 and floor < 0.2 and np.median(joints[:, 0, 2]) > 0.5)


def _head(skeleton: Skeleton) -> int:
    """The tip of the chain that goes up from the root."""
    rest = np.zeros((len(skeleton), 3))
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + skeleton.rest_offsets[joint]
    return int(rest[:, 1].argmax())


def _oddities(joints: NDArray[np.float64], fps: float, skeleton: Skeleton) -> Iterable[str]:
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(-1, initial=0) * fps
    if len(speed) and speed.max() > MAX_SPEED:
        frame = int(speed.argmax())
        yield f"a joint moves at {speed.max():.0f} m/s between frames {frame} and {frame + 1}"
    low = joints[..., 1].min()
    if not -0.1 <= low <= 0.3:
        yield f"the lowest joint is at {low:.2f} m; the floor should be near 0"
    aside = float(np.linalg.norm(joints[0, 0, [0, 2]]))
    if aside > 0.01:
        yield f"the pelvis starts {aside:.2f} m away from the origin"
    (left_hip, right_hip), (left, right) = skeleton.hips, skeleton.shoulders
    across = joints[0, left_hip] - joints[0, right_hip] + joints[0, left] - joints[0, right]
    turn = abs(np.degrees(np.arctan2(across[2], across[0])))
    if turn > 3:
        yield f"frame 0 faces {turn:.0f} degrees away from +z"


class Duplicates:
    """Finds clips that are the same recording, by what the joints do at eight moments."""

    def __init__(self) -> None:
        self._clips: list[tuple[str, str, int]] = []
        self._moments: list[NDArray[np.float32]] = []

    def add(self, name: str, split: str, joints: NDArray[np.float32]) -> None:
        """Remember a clip by its (T, J, 3) joints."""
        moments = joints[np.linspace(0, len(joints) - 1, 8).round().astype(int)]
        self._clips.append((name, split, len(joints)))
        self._moments.append(moments.astype(np.float32).reshape(-1))

    def problems(self, file: str) -> list[Problem]:
        """An error for each pair in different splits (a leak), a warning for each within one."""
        found = []
        lengths = np.array([frames for _, _, frames in self._clips])
        order = np.argsort(lengths, kind="stable")
        moments = np.stack(self._moments) if self._moments else np.empty((0, 0))
        for place, first in enumerate(order):
            end = np.searchsorted(lengths[order], lengths[first] + 2, side="right")
            others = order[place + 1 : end]
            apart = np.abs(moments[others] - moments[first]).mean(axis=-1)
            for other in others[apart < SAME_MOTION]:
                (a, split_a, _), (b, split_b, _) = sorted([self._clips[first], self._clips[other]])
                same = f"{a} and {b} are the same motion"
                if split_a == split_b:
                    found.append(Problem(file, f"{same}, both in {split_a}", "warning"))
                else:
                    found.append(Problem(file, f"{same}, one in {split_a}, one in {split_b}: the split leaks"))
        return found
