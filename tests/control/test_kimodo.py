"""Kimodo's sets: what is read of them, and what is written comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from people import person

from motiongpt3 import MotionGPT3Error
from motiongpt3 import constraints as c
from motiongpt3.control.kimodo import from_set, to_sets
from motiongpt3.motion.poses import bone_lengths
from motiongpt3.motion.skeleton import HUMANML3D

POSE = person(1, arm=1.0)[0].astype(np.float64)
REST: dict[str, Any] = {"local_joints_rot": np.zeros((1, 22, 3)).tolist(), "root_positions": [[0.5, 0.9, 2.0]]}


def test_a_root_path_is_the_smoothed_one_with_headings() -> None:
    entry = {"type": "root2d", "frame_indices": [0, 30], "smooth_root_2d": [[0, 0], [0, 1]]}
    [path] = from_set({**entry, "global_root_heading": [[1, 0], [0, 1]]}, fps=30)
    assert isinstance(path, c.RootPath)
    assert path.smooth
    np.testing.assert_allclose(path.seconds, [0, 1])
    np.testing.assert_allclose(path.headings, [0, np.pi / 2])
    [wide] = from_set({**entry, "smooth_root_2d": [[0, 0.9, 0], [0, 0.9, 1]]}, fps=30)
    np.testing.assert_array_equal(wide.xz, path.xz)


def test_a_pose_without_turns_is_the_t_pose() -> None:
    [key] = from_set({"type": "fullbody", "frame_indices": [10], **REST}, fps=20)
    pose = np.asarray(key.pose)
    np.testing.assert_allclose(pose[0], [0.5, 0.9, 2.0])
    np.testing.assert_allclose(bone_lengths(pose[None])[0, 1:], HUMANML3D.bone_lengths[1:], atol=1e-6)
    assert pose[HUMANML3D.index("l_wrist"), 0] > pose[HUMANML3D.index("l_elbow"), 0] + 0.2


def test_a_turned_elbow_turns_the_forearm_alone() -> None:
    turns = np.zeros((1, 22, 3))
    turns[0, HUMANML3D.index("l_elbow")] = [0, -np.pi / 2, 0]  # from +x to +z
    resting, turned = (
        np.asarray(from_set({"type": "fullbody", "frame_indices": [0], **REST, **more}, 20)[0].pose)
        for more in ({}, {"local_joints_rot": turns.tolist()})
    )
    moved = np.linalg.norm(turned - resting, axis=-1) > 1e-6
    assert [HUMANML3D.names[joint] for joint in np.flatnonzero(moved)] == ["l_wrist"]
    assert turned[20, 2] > resting[20, 2] + 0.2


@pytest.mark.parametrize(
    ("kind", "joints"),
    [
        ("left-hand", ("pelvis", "l_wrist")),
        ("right-foot", ("pelvis", "r_ankle", "r_foot")),
        ("end-effector", ("pelvis", "r_wrist", "head")),
    ],
)
def test_hands_and_feet_count_with_the_hips(kind: str, joints: tuple[str, ...]) -> None:
    names = {"joint_names": ["RightHand", "Head"]} if kind == "end-effector" else {}
    [key] = from_set({"type": kind, "frame_indices": [3], **REST, **names}, fps=20)
    assert key.joints == joints


def test_what_is_written_comes_back() -> None:
    given = [
        c.RootPath(frames=[0, 20], xz=[[0, 0], [0.5, 1]], headings=[0.1, -0.2], smooth=True),
        c.Keyframe(POSE, frame=12),
        c.Keyframe(POSE, frame=13, joints=("pelvis", "l_wrist")),
        c.Keyframe(POSE, frame=14, joints=("head", "r_knee", "pelvis")),
    ]
    sets = to_sets(given, 20)
    assert [entry["type"] for entry in sets] == ["root2d", "fullbody", "left-hand", "end-effector"]
    path, *keys = (one for entry in sets for one in from_set(entry, 20))
    np.testing.assert_allclose(path.headings, given[0].headings)
    for key, before in zip(keys, given[1:], strict=True):
        np.testing.assert_allclose(key.pose, POSE, atol=1e-6)
        assert key.seconds * 20 == pytest.approx(before.frame)


def test_rotations_that_are_written_are_those_of_the_pose() -> None:
    turns = np.zeros((1, 22, 3))
    turns[0, [0, 1, 4, 16, 18]] = [[0, 0.5, 0], [-0.6, 0, 0], [0.8, 0, 0], [0, 0, -0.9], [0, -1.2, 0]]
    [before] = from_set({"type": "fullbody", "frame_indices": [0], **REST, "local_joints_rot": turns.tolist()}, 20)
    [entry] = to_sets([before], 20)
    del entry["joint_positions"]
    [key] = from_set(entry, 20)
    assert np.linalg.norm(np.asarray(key.pose) - before.pose, axis=-1).mean() < 0.02


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frame_indices": None}, "must be numbers|shape"),
        ({"root_positions": [[0, float("inf"), 0]]}, "NaN or infinite"),
        ({"local_joints_rot": np.zeros((1, 77, 3)).tolist()}, "77 joints"),
        ({"local_joints_rot": [[[0, 0]]]}, r"\(1, joints, 3\)"),
        ({"frame_indices": [[[[0]]]]}, "shape"),
        ({"frame_indices": [10**400]}, "must be numbers"),
    ],
)
def test_damaged_sets_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(MotionGPT3Error, match=says):
        from_set({"type": "fullbody", "frame_indices": [0], **REST, **change}, 20)


def test_what_the_format_does_not_have_is_not_written() -> None:
    for given in (c.Contact("left_foot", 0, 1), c.Keyframe(POSE, 1, placed=False), c.RootPath([[0, 0]], [0])):
        with pytest.raises(MotionGPT3Error, match="Kimodo's file has no"):
            to_sets([given], 20)
