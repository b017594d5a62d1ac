"""The quick model of these tests, whose people move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fake_model import FPS, FakeModel

from motiongpt3 import HUMANML3D, Motion


class MovingModel(FakeModel):
    """People who swing their arms; seed and seconds as they are asked for."""

    def generate(self, prompt: Sequence[str], seconds: Sequence[float | None], **options: Any) -> list[Motion]:
        made = super().generate(prompt, seconds, **options)
        return [motion.replace(joints=swinging(len(motion))) for motion in made]


def swinging(frames: int) -> np.ndarray:
    """(T, 22, 3) of somebody who swings both arms sideways once a second while they step to the side."""
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    joints = np.tile(pose, (frames, 1, 1))
    angle = 1.2 * (1 - np.cos(2 * np.pi * np.arange(frames) / FPS))
    for shoulder, arm, side in ((16, (18, 20), 1), (17, (19, 21), -1)):
        for joint in arm:
            length = np.linalg.norm(pose[joint] - pose[shoulder])
            joints[:, joint] = pose[shoulder] + length * np.stack(
                [side * np.sin(angle), -np.cos(angle), np.zeros(frames)], axis=-1
            )
    return joints + 0.02 * np.arange(frames)[:, None, None] * [1, 0, 0]
