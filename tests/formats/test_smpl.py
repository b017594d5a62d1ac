"""SMPL-shaped files: what SMPL's own kinematics make of them, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from clips import invented, recorded

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save, writable_suffixes
from motiongpt3.formats.smpl import solve
from motiongpt3.motion.skeleton import HUMANML3D


def posed(file: Path) -> np.ndarray:
    """(T, 22, 3) joints, z up, by SMPL's formula: x_j = x_parent + R_parent (J_j - J_parent), R_j = R_parent r_j."""
    with np.load(file) as arrays:
        poses, trans, rest = arrays["poses"], arrays["trans"], arrays["rest_joints"]
    turned = roma.rotvec_to_rotmat(torch.from_numpy(poses.reshape(len(poses), 24, 3))).numpy()
    joints, worlds = np.zeros((len(poses), 22, 3)), np.zeros((len(poses), 22, 3, 3))
    joints[:, 0], worlds[:, 0] = rest[0], turned[:, 0]
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        joints[:, joint] = joints[:, parent] + worlds[:, parent] @ (rest[joint] - rest[parent])
        worlds[:, joint] = worlds[:, parent] @ turned[:, joint]
    return joints + trans[:, None]


def test_real_motions(mocap_dir: Path, tmp_path: Path) -> None:
    errors = []
    for motion in recorded(mocap_dir, "test", 20):
        file = save(motion, tmp_path / "clip.smpl.npz")
        joints = posed(file)
        assert np.median(np.ptp(joints[..., 2], axis=1)) > 0.8, "z is up"
        seen = joints[..., [0, 2, 1]] * [-1, 1, 1]
        error = float(np.linalg.norm(seen - motion.joints, axis=-1).mean())
        assert error == pytest.approx(solve(motion).error, abs=1e-4)
        np.testing.assert_allclose(load(file).joints, seen, atol=1e-4)
        errors.append(error)
    assert np.mean(errors) < 0.01
    assert np.max(errors) < 0.03


def test_the_arrays_are_amass_like(tmp_path: Path) -> None:
    motion = invented(1, 30, fps=60, wildness=0.3)
    with np.load(save(motion, tmp_path / "clip.smpl.npz")) as arrays:
        assert arrays["poses"].shape == (30, 72)
        assert arrays["trans"].shape == (30, 3)
        assert arrays["mocap_framerate"] == 60
        assert not arrays["poses"][:, 66:].any(), "hands rest"
        assert np.linalg.norm(arrays["poses"].reshape(30, 24, 3), axis=-1).max() < np.pi + 1e-5
    again = load(tmp_path / "clip.smpl.npz")
    assert (again.fps, again.caption, again.name) == (60, motion.caption, "clip.smpl")
    assert ".smpl.npz" in writable_suffixes()


def test_a_renamed_file_is_read_too(tmp_path: Path) -> None:
    file = save(invented(2), tmp_path / "clip.smpl.npz").rename(tmp_path / "clip.npz")
    assert len(load(file)) == 12


def test_rest_joints_of_another_body_are_refused(tmp_path: Path) -> None:
    with np.load(save(invented(2), tmp_path / "clip.smpl.npz")) as file:
        arrays = dict(file)
    np.savez(tmp_path / "bad.npz", **(arrays | {"rest_joints": np.zeros((24, 3))}))
    with pytest.raises(MotionGPT3Error, match="rest_joints must have shape"):
        load(tmp_path / "bad.npz")
