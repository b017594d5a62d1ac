"""SMPL-shaped files: what SMPL's own kinematics make of them, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from clips import invented, recorded

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import ReadingWarning, load, save, writable_suffixes
from motiongpt3.formats.smpl import VARIABLE, smpl_poses
from motiongpt3.motion.poses import bone_vectors
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


@pytest.mark.slow
def test_real_motions(mocap_dir: Path, tmp_path: Path) -> None:
    errors = []
    for motion in recorded(mocap_dir, "test", 20):
        file = save(motion, tmp_path / "clip.smpl.npz")
        joints = posed(file)
        assert np.median(np.ptp(joints[..., 2], axis=1)) > 0.8, "z is up"
        seen = joints[..., [0, 2, 1]] * [-1, 1, 1]
        error = float(np.linalg.norm(seen - motion.joints, axis=-1).mean())
        assert error == pytest.approx(smpl_poses(motion).error, abs=1e-4)
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
    file = save(invented(2), tmp_path / "clip.smpl.npz")
    joints = load(file).joints
    np.testing.assert_array_equal(load(file.rename(tmp_path / "clip.npz")).joints, joints)
    error = np.linalg.norm(joints - invented(2).joints, axis=-1).mean()
    assert error == pytest.approx(smpl_poses(invented(2)).error, abs=1e-4)


def test_rest_joints_of_another_body_are_refused(tmp_path: Path) -> None:
    with np.load(save(invented(2), tmp_path / "clip.smpl.npz")) as file:
        arrays = dict(file)
    np.savez(tmp_path / "bad.npz", **(arrays | {"rest_joints": np.zeros((24, 3))}))
    with pytest.raises(MotionGPT3Error, match="rest_joints must have shape"):
        load(tmp_path / "bad.npz")


T_POSE = {
    13: (1, 0, 0),
    14: (-1, 0, 0),
    16: (1, 0, 0),
    17: (-1, 0, 0),
    18: (1, 0, 0),
    19: (-1, 0, 0),
    20: (1, 0, 0),
    21: (-1, 0, 0),
}


def body_model(path: Path) -> np.ndarray:
    """A model whose vertices are its joints: HumanML3D's lengths in a T-pose, fingers left in the wrists."""
    directions = np.array([T_POSE.get(j, offset) for j, offset in enumerate(HUMANML3D.offsets)], dtype=float)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    joints = np.zeros((52, 3))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            joints[joint] = joints[parent] + directions[joint] * HUMANML3D.bone_lengths[joint]
    tree = np.stack([[2**32 - 1, *HUMANML3D.parents[1:], *[20] * 30], np.arange(52)]).astype(np.int64)
    np.savez(path, J_regressor=np.eye(52), v_template=joints, kintree_table=tree, shapedirs=np.zeros((52, 3, 16)))
    return joints[:22]


def clip(path: Path, **changes: object) -> None:
    arrays: dict[str, object] = {
        "poses": np.zeros((4, 156)),
        "trans": np.zeros((4, 3)),
        "mocap_framerate": 120.0,
        "gender": "male",
        "betas": np.zeros(16),
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})  # type: ignore[arg-type]


def test_without_a_body_model_it_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    clip(tmp_path / "clip.npz")
    with pytest.raises(MotionGPT3Error, match=f"set {VARIABLE} to an SMPL-H model.npz"):
        load(tmp_path / "clip.npz")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.npz"))
    with pytest.raises(MotionGPT3Error, match="no body model at"):
        load(tmp_path / "clip.npz")


def test_poses_become_joints_with_y_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "male").mkdir()
    rest = body_model(tmp_path / "male" / "model.npz")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    poses = np.zeros((4, 156))
    poses[:, :3] = [np.pi / 2, 0, 0]  # AMASS stands up along z
    poses[1, 3 * 18 : 3 * 18 + 3] = [0, -np.pi / 2, 0]  # the left forearm bends forward
    trans = np.linspace([0, 0, 1], [0.3, 0.6, 1], 4)
    clip(tmp_path / "clip.npz", poses=poses, trans=trans)
    motion = load(tmp_path / "clip.npz")
    assert motion.fps == 120
    lengths = bone_vectors(torch.tensor(motion.joints)).norm(dim=-1).numpy()
    np.testing.assert_allclose(lengths, np.broadcast_to(HUMANML3D.bone_lengths, lengths.shape), atol=1e-5)
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, np.pi, 0])).numpy()  # (x, y, z) -> (-x, z, y) faces -y to +z
    pose = motion.joints - motion.joints[:, :1]
    expected = rest @ turn.T
    upright = pose[0, 15, 1]
    assert upright == pytest.approx(rest[15, 1], abs=1e-4)
    np.testing.assert_allclose(pose[0], expected if pose[0, 16, 0] < 0 else rest, atol=1e-4)
    np.testing.assert_allclose(motion.joints[-1, 0] - motion.joints[0, 0], [-0.3, 0, 0.6], atol=1e-4)
    forearm, facing = pose[1, 20] - pose[1, 18], np.cross(pose[1, 1] - pose[1, 2], [0, 1, 0])
    assert forearm @ facing / np.linalg.norm(facing) == pytest.approx(HUMANML3D.bone_lengths[20], abs=1e-4)


def test_files_of_smpl_x_and_of_other_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AMASS's `stageii` files, root and body apart, no rate, y up."""
    body_model(tmp_path / "model.npz")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "model.npz"))
    poses, trans = np.zeros((4, 165)), np.linspace([0, 0, 0.95], [0.3, 0.6, 0.95], 4)
    poses[:, :3] = [np.pi / 2, 0, 0]
    clip(tmp_path / "a.npz", poses=poses, trans=trans)
    wanted = load(tmp_path / "a.npz").joints
    clip(tmp_path / "b.npz", poses=poses, trans=trans, mocap_framerate=None, mocap_frame_rate=30.0)
    apart = {"poses": None, "root_orient": poses[:, :3], "pose_body": poses[:, 3:66]}
    clip(tmp_path / "c.npz", trans=trans, **apart)
    for file, fps in (("b.npz", 30), ("c.npz", 120)):
        assert load(tmp_path / file).fps == fps
        np.testing.assert_array_equal(load(tmp_path / file).joints, wanted)
    clip(tmp_path / "d.npz", poses=poses, trans=trans, mocap_framerate=None)
    with pytest.raises(MotionGPT3Error, match="--fps-in"):
        load(tmp_path / "d.npz")
    assert load(tmp_path / "d.npz", fps=60).fps == 60
    clip(tmp_path / "e.npz", poses=np.zeros((4, 165)), trans=trans[:, [0, 2, 1]] * [1, 1, -1])
    with pytest.warns(ReadingWarning, match="--up z"):
        joints = load(tmp_path / "e.npz").joints
    assert joints[0, 15, 1] > joints[0, 0, 1] > joints[0, 7, 1]
    np.testing.assert_allclose(joints[..., 1], wanted[..., 1], atol=1e-4)
    clip(tmp_path / "f.npz", trans=trans, **(apart | {"root_orient": None}))
    with pytest.raises(MotionGPT3Error, match="no root_orient"):
        load(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"poses": np.zeros((4, 60))}, "should be"), ({"trans": np.zeros((3, 3))}, "should be"),
     ({"poses": np.full((4, 156), np.nan)}, "NaN"), ({"mocap_framerate": None}, "no mocap_framerate"),
     ({"mocap_framerate": -1.0}, "fps must be"), ({"poses": np.zeros(5)}, "should be")],
)  # fmt: skip
def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str) -> None:
    body_model(tmp_path / "model.npz")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "model.npz"))
    clip(tmp_path / "clip.npz", **changes)
    with pytest.raises(MotionGPT3Error, match=message):
        load(tmp_path / "clip.npz")


def test_a_body_model_of_another_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(
        tmp_path / "model.npz", J_regressor=np.eye(52), v_template=np.ones((52, 3)), kintree_table=np.zeros((2, 52))
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path / "model.npz"))
    clip(tmp_path / "clip.npz")
    with pytest.raises(MotionGPT3Error, match="are not SMPL's"):
        load(tmp_path / "clip.npz")
