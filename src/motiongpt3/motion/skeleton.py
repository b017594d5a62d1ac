"""The skeleton: joint names, parents, rest offsets and left/right pairs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""An array of floats of either precision; `Float32` and `Float64` where it matters."""
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Leg = tuple[int, int, int, int]
"""Hip, knee, ankle and toe."""


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints. Joint 0 is the root; every parent comes before its children.

    Attributes:
        names: joint names, J of them.
        parents: index of each joint's parent, -1 for the root.
        offsets: (J, 3) offset of each joint from its parent in metres in the reference pose that the 6D rotations
            of the features are relative to: y up, facing +z, left is +x.
        chains: paths from the root, or from a joint of an earlier path, to each tip; inverse kinematics walks them.
        pairs: index pairs (left, right) that swap when a motion is mirrored.
        contacts: the joints whose floor contact is part of the features, left ankle, left foot, right ankle,
            right foot.
        hips: left and right hip; with the shoulders they tell which way the body faces.
        shoulders: left and right shoulder.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]
    chains: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    contacts: tuple[int, int, int, int]
    hips: tuple[int, int]
    shoulders: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Index of the joint called `name`; ValueError if there is none."""
        return self.names.index(name)

    @cached_property
    def rest_offsets(self) -> NDArray[np.float32]:
        """(J, 3) rest offsets in metres as an array."""
        return np.asarray(self.offsets, dtype=np.float32)

    @cached_property
    def bone_lengths(self) -> NDArray[np.float32]:
        """(J,) length of the bone from each joint's parent in metres; 0 for the root."""
        return np.linalg.norm(self.rest_offsets, axis=-1).astype(np.float32)

    @cached_property
    def legs(self) -> tuple[Leg, ...]:
        """Hip, knee, ankle and toe of the left and of the right leg."""
        ends = (self.contacts[:2], self.contacts[2:])
        return tuple((self.parents[self.parents[ankle]], self.parents[ankle], ankle, toe) for ankle, toe in ends)

    @cached_property
    def mirror_permutation(self) -> NDArray[np.int64]:
        """(J,) for each joint, the joint that takes its place when left and right swap."""
        order = np.arange(len(self))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return order


_NAMES = (
    "pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine2", "l_ankle", "r_ankle", "spine3", "l_foot",
    "r_foot", "neck", "l_collar", "r_collar", "head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist",
    "r_wrist",
)  # fmt: skip
_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
_UP, _DOWN, _LEFT, _RIGHT, _FRONT = (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1)
_REFERENCE = (
    (_LEFT, 0.0), (_LEFT, 0.10307), (_RIGHT, 0.10988), (_UP, 0.13157), (_DOWN, 0.39362), (_DOWN, 0.39019),
    (_UP, 0.14319), (_DOWN, 0.43243), (_DOWN, 0.42564), (_UP, 0.05736), (_FRONT, 0.14338), (_FRONT, 0.14942),
    (_UP, 0.21936), (_LEFT, 0.13749), (_RIGHT, 0.14338), (_FRONT, 0.10304), (_DOWN, 0.13161), (_DOWN, 0.12298),
    (_DOWN, 0.25684), (_DOWN, 0.26309), (_DOWN, 0.26601), (_DOWN, 0.26988),
)  # fmt: skip

HUMANML3D = Skeleton(
    names=_NAMES,
    parents=_PARENTS,
    offsets=tuple((length * x, length * y, length * z) for (x, y, z), length in _REFERENCE),
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    pairs=((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21)),
    contacts=(7, 10, 8, 11),
    hips=(1, 2),
    shoulders=(16, 17),
)
"""The 22 SMPL joints of HumanML3D with the bone lengths that all its clips carry."""
LEGS = HUMANML3D.legs
"""Hip, knee, ankle and toe of its left and its right leg."""


def nearest_above(joint: int, parents: Sequence[int], among: Container[int]) -> int:
    """The nearest of `among` above a joint of any tree; -1 if there is none."""
    above = parents[joint]
    while above >= 0 and above not in among:
        above = parents[above]
    return above
