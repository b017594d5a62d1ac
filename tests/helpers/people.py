"""Made-up people."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.poses import assemble
from motiongpt3.motion.skeleton import HUMANML3D

LENGTHS = HUMANML3D.bone_lengths[1:]


def person(frames: int = 40, speed: float = 0.0, arm: float = 0.0, seed: int = 0, step: float = 0.6) -> np.ndarray:
    """A made-up person: walks along +z at `speed` m/s with swinging legs, the right arm raised by `arm` radians."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / 20
    directions = np.tile(HUMANML3D.rest_offsets[1:] / LENGTHS[:, None], (frames, 1, 1)).astype(np.float64)
    swing = step * min(1, speed) * np.sin(2 * np.pi * time + rng.uniform(0, 6))
    for side, thigh, shin in ((1, 3, 6), (-1, 4, 7)):
        for joint, angle in ((thigh, side * swing + 0.15), (shin, side * swing - 0.15)):
            directions[:, joint] = np.stack([0 * time, -np.cos(angle), np.sin(angle)], axis=-1)
    lift = arm * np.clip(time, 0, 1) + 0.05 * np.sin(5 * time)
    for joint in (18, 20):
        directions[:, joint] = np.stack([-np.sin(lift), -np.cos(lift), 0 * time], axis=-1)
    root = np.stack([0 * time, 0.93 - 0.05 * swing**2, speed * time], axis=-1)
    joints = assemble(root, directions, LENGTHS)
    joints[..., 1] -= joints[..., 1].min()
    return joints.astype(np.float32)
