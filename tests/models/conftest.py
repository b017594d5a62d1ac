"""A tiny model that reads motions, and motions for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


@pytest.fixture(scope="session")
def reader(tiny_reader_dir: Path) -> MotionGPT3:
    """The model of `tiny_reader_dir`; it must not be changed."""
    return MotionGPT3.from_pretrained(tiny_reader_dir)


def sway(frames: int, seed: int = 0, fps: float = 20.0) -> Motion:
    """Somebody who stands and sways."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((frames, 22, 3))
    for joint in range(1, 22):
        joints[:, joint] = joints[:, HUMANML3D.parents[joint]] + HUMANML3D.rest_offsets[joint]
    time = np.arange(frames)[:, None, None] / fps
    joints = joints + 0.05 * np.sin(3 * time + rng.normal(size=(1, 22, 3)))
    joints[..., 1] -= joints[..., 1].min()
    return Motion(joints.astype(np.float32), fps)


@pytest.fixture(scope="session")
def motions() -> list[Motion]:
    """Six motions of 24 to 54 frames."""
    return [sway(24 + 6 * number, number) for number in range(6)]
