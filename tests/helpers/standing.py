"""Somebody who stands, for tests of feet."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.poses import assemble
from motiongpt3.motion.skeleton import HUMANML3D


def standing(frames: int = 60) -> np.ndarray:
    """(frames, 22, 3) a person who stands with slightly bent knees and toes at height 0."""
    directions = HUMANML3D.rest_offsets[1:].astype(np.float64)
    directions[3:5], directions[6:8] = (0, -1, 0.2), (0, -1, -0.2)
    joints = assemble(np.zeros((frames, 3)), np.tile(directions, (frames, 1, 1)), HUMANML3D.bone_lengths[1:])
    joints[..., 1] -= joints[..., 1].min()
    return joints
