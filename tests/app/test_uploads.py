"""Files that a browser sends: what is no motion, too large or too long is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from motiongpt3 import MotionGPT3Error
from motiongpt3.app.uploads import read_upload
from motiongpt3.service.motion_files import MAX_UPLOAD


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.exe", b"x", "a motion is read from"),
        ("a", b"x", "a motion is read from"),
        ("a.npz", b"x" * 100, "motion.npz"),
        ("a.bvh", b"", "is empty"),
        ("a.glb", b"x" * 100, "motion.glb is no GLB file"),
        ("../a.GLB", b"glTF\2\0\0\0\0\0\0\1", "motion.glb is cut short"),
        ("a.vrm", b"glTF", "a motion is read from bvh, glb, npz, npy"),
        ("a.bvh", bytes(MAX_UPLOAD + 1), "at most 20 MB"),
    ],
)
def test_files_that_are_no_motions_are_refused(name: str, data: bytes, why: str) -> None:
    with pytest.raises(MotionGPT3Error, match=why):
        read_upload(name, data)


def test_a_long_motion_is_refused() -> None:
    file = io.BytesIO()
    np.savez(file, joints=np.zeros((2, 22, 3), np.float32), fps=np.float32(0.001))
    with pytest.raises(MotionGPT3Error, match="at most 600"):
        read_upload("a.npz", file.getvalue())
