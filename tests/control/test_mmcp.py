"""MMCP's constraints: what is read of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motiongpt3 import MotionGPT3Error
from motiongpt3 import constraints as c
from motiongpt3.control.mmcp import from_entry
from motiongpt3.motion.skeleton import HUMANML3D

TURN = [0.0, float(np.sin(np.pi / 4)), 0.0, float(np.cos(np.pi / 4))]  # a quarter about y, xyzw


def test_paths_and_targets() -> None:
    entry = {"type": "root_path", "frames": [0, 60], "positions_xz": [[0, 0], [1, 2]], "heading_radians": [0, 1.5]}
    [path] = from_entry(entry, fps=30)
    assert isinstance(path, c.RootPath)
    assert not path.smooth
    np.testing.assert_allclose(path.seconds, [0, 2])
    np.testing.assert_allclose(path.headings, [0, 1.5])
    [target] = from_entry(
        {"type": "effector_target", "joint": "left_wrist", "frames": [3], "positions": [[0, 1, 0]]}, 30
    )
    assert (target.joint, target.seconds.tolist()) == ("l_wrist", [0.1])


def test_a_pose_turns_from_the_t_pose_and_is_placed_by_its_root() -> None:
    entry = {"type": "pose_keyframe", "frame": 30, "joint_rotations": {"pelvis": TURN}, "root_position": [1, 0.9, 2]}
    [key] = from_entry(entry, fps=30)
    pose = np.asarray(key.pose)
    np.testing.assert_allclose(pose[0], [1, 0.9, 2])
    left = pose[HUMANML3D.index("l_wrist")] - pose[0]
    assert left[2] < -0.5  # the left arm, +x at rest, points to -z
    assert (key.seconds, key.placed, key.joints) == (1.0, True, None)
    del entry["root_position"]
    assert not from_entry(entry, fps=30)[0].placed


def test_free_joints_are_those_that_no_rotation_decides() -> None:
    entry = {
        "type": "pose_keyframe",
        "frame": 0,
        "fill_mode": "generate",
        "joint_rotations": {"pelvis": TURN, "l_hip": TURN},
    }
    assert from_entry(entry, 20)[0].joints == ("pelvis", "l_hip", "r_hip", "spine1", "l_knee")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"type": "ground_height", "points": [[0, 1, 0]]}, "flat floor"),
        ({"type": "root_path", "frames": [0]}, "no positions_xz"),
        ({"type": "pose_keyframe", "frame": 0, "joint_rotations": {"tail": TURN}}, "no joint 'tail'"),
        ({"type": "pose_keyframe", "frame": 0, "joint_rotations": {"head": [0, 0, 0, 0]}}, "all of it is 0"),
        ({"type": "pose_keyframe", "frame": 0, "joint_rotations": {"head": [0, 0, 1]}}, r"\(4\)"),
        ({"type": "pose_keyframe", "frame": 0, "joint_rotations": []}, "no joint_rotations|object of quaternions"),
        (
            {"type": "pose_keyframe", "frame": 0, "fill_mode": "hope", "joint_rotations": {"head": TURN}},
            "rest or generate",
        ),
        (
            {"type": "pose_keyframe", "frame": 0, "fill_mode": "generate", "joint_rotations": {"head": TURN}},
            "from the pelvis on",
        ),
    ],
)
def test_what_cannot_be_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(MotionGPT3Error, match=says):
        from_entry(entry, 20)
