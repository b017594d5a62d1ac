"""Made-up people."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.poses import assemble
from motiongpt3.motion.skeleton import HUMANML3D, LEGS

LENGTHS = HUMANML3D.bone_lengths
_DIRECTIONS = HUMANML3D.rest_offsets.astype(np.float64)


def person(frames: int = 40, speed: float = 0.0, arm: float = 0.0, seed: int = 0, step: float = 0.6) -> np.ndarray:
    """A made-up person: walks along +z at `speed` m/s with swinging legs, the right arm raised by `arm` radians."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / 20
    directions = np.tile(_DIRECTIONS, (frames, 1, 1))
    swing = step * min(1, speed) * np.sin(2 * np.pi * time + rng.uniform(0, 6))
    for sign, (_, knee, ankle, _) in zip((1, -1), LEGS, strict=True):
        for joint, angle in ((knee, sign * swing + 0.15), (ankle, sign * swing - 0.15)):
            directions[:, joint] = np.stack([0 * time, -np.cos(angle), np.sin(angle)], axis=-1)
    lift = arm * np.clip(time, 0, 1) + 0.05 * np.sin(5 * time)
    for name in ("r_elbow", "r_wrist"):
        directions[:, HUMANML3D.index(name)] = np.stack([-np.sin(lift), -np.cos(lift), 0 * time], axis=-1)
    root = np.stack([0 * time, 0.93 - 0.05 * swing**2, speed * time], axis=-1)
    return _on_the_floor(assemble(root, directions, LENGTHS)).astype(np.float32)


def standing(frames: int = 60) -> np.ndarray:
    """(frames, 22, 3) a person who stands with slightly bent knees and toes at height 0."""
    directions = _DIRECTIONS.copy()
    for _, knee, ankle, _ in LEGS:
        directions[knee], directions[ankle] = (0, -1, 0.2), (0, -1, -0.2)
    return _on_the_floor(assemble(np.zeros((frames, 3)), np.tile(directions, (frames, 1, 1)), LENGTHS))


def _on_the_floor(joints: np.ndarray) -> np.ndarray:
    return joints - [0, joints[..., 1].min(), 0]
