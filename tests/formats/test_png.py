"""The strip of poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import png
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


def walk(frames: int = 60, speed: float = 1.0, caption: str | None = "a person walks") -> Motion:
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[15] = pose[12] + [0, 0.1, 0.02]
    pose[:, 1] -= pose[:, 1].min()
    return Motion(pose + (np.arange(frames) / 20 * speed)[:, None, None] * [0, 0, 1], caption=caption)


def heads(picture: np.ndarray) -> int:
    """How many figures stand side by side: runs of columns with an orange limb in the scene."""
    scene = picture[png.HEAD_HEIGHT :].astype(int)
    orange = ((scene[..., 0] - scene[..., 2]) > 110).any(axis=0)
    wide = np.convolve(orange, np.ones(3), "same") > 0
    return int((np.diff(wide.astype(int)) == 1).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "speed", "poses"), [(60, 0.0, 8), (60, 1.5, 8), (200, 3.0, 8), (3, 0.0, 3), (1, 0, 1)]
)
def test_every_pose_stands_apart(frames: int, speed: float, poses: int) -> None:
    assert heads(png.strip(walk(frames, speed))) == poses


@pytest.mark.slow
def test_file_is_a_png_and_writing_is_atomic(tmp_path: Path) -> None:
    png.write(walk(), tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (png.WIDTH, png.HEAD_HEIGHT + png.SCENE_HEIGHT)
        picture.load()
    assert [p.name for p in tmp_path.iterdir()] == ["strip.png"]
    with pytest.raises(MotionGPT3Error, match="cannot write"):
        png.write(walk(), tmp_path / "nowhere" / "strip.png")


@pytest.mark.slow
def test_caption_changes_only_the_head() -> None:
    plain, worded = png.strip(walk(caption=None)), png.strip(walk(caption="a person walks " * 60))
    assert np.array_equal(plain[png.HEAD_HEIGHT :], worded[png.HEAD_HEIGHT :])
    assert not np.array_equal(plain[: png.HEAD_HEIGHT], worded[: png.HEAD_HEIGHT])


@pytest.mark.slow
@pytest.mark.parametrize(
    "joints",
    [
        np.zeros((4, 22, 3)),
        np.random.default_rng(0).normal(0, 1e4, (5, 22, 3)),
        walk().joints * 100,
        walk().joints * 1e-3,
        walk().joints + 9e4,
        walk(3000, 1.0).joints,
    ],
    ids=["point", "scattered", "centimetres", "tiny", "far", "long"],
)
def test_odd_motions(joints: np.ndarray) -> None:
    """All are drawn: something dark or coloured stands on the floor, and the header tells of the motion."""
    picture = png.strip(Motion(joints, caption="人\ud800\x00")).astype(int)
    assert picture.shape == (652, 1600, 3)
    assert (picture[: png.HEAD_HEIGHT].min(axis=-1) < 120).sum() > 100
    assert (picture[png.HEAD_HEIGHT : -60].min(axis=-1) < 150).sum() > 20
