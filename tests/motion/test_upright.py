"""What is up, how large and which hand a figure is: found again however a file turns, scales or mirrors it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from people import person, standing

from motiongpt3.motion.upright import METRES, find_upright, has_leading_t_pose, is_person, on_floor

TURNS = {
    "y": lambda x, y, z: (x, y, z),
    "z": lambda x, y, z: (x, -z, y),
    "-z": lambda x, y, z: (x, z, -y),
    "x": lambda x, y, z: (y, -x, z),
    "-x": lambda x, y, z: (-y, x, z),
    "-y": lambda x, y, z: (x, -y, -z),
}
"""How a file has what is (x, y, z) in ours, by the axis that is up in it."""
axes, units = st.sampled_from(sorted(TURNS)), st.sampled_from(["m", "cm", "mm", "in"])


def turned(joints: np.ndarray, up: str, unit: str = "m") -> np.ndarray:
    return np.stack(TURNS[up](*np.moveaxis(joints, -1, 0)), axis=-1) / METRES[unit]


def walking(seed: int = 0) -> np.ndarray:
    return person(60, speed=1.0, arm=0.4, seed=seed).astype(np.float64)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(axes, units, st.floats(-np.pi, np.pi), st.integers(0, 5))
def test_any_axis_and_unit_are_found_again(up: str, unit: str, yaw: float, seed: int) -> None:
    joints = walking(seed) @ [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    found = find_upright(turned(joints, up, unit))
    assert (found.up, found.unit) == (up, unit)
    np.testing.assert_allclose(found.placed(turned(joints, up, unit)), joints, atol=1e-9)
    assert bool(found.notes or found.doubts) == (up != "y" or unit != "m")


def test_what_the_user_says_overrules() -> None:
    joints = turned(walking(), "z", "cm")
    found = find_upright(joints, up="y", unit="in")
    assert (found.up, found.unit, found.notes, found.doubts) == ("y", "in", (), ())
    np.testing.assert_allclose(found.placed(joints), joints * 0.0254)


def lying(joints: np.ndarray) -> np.ndarray:
    """A person on their back on the floor, head along z."""
    flat = turned(joints - joints[:1, :1], "z")
    return flat - [0, flat[..., 1].min(), 0]


def test_a_person_who_lies_through_the_clip_stays_lying() -> None:
    joints = lying(person(60, seed=1).astype(np.float64))
    rest = walking()[0]
    for found in (find_upright(joints), find_upright(joints, rest)):
        assert found.up == "y"
        assert "--up z" in found.doubts[0]
    assert find_upright(turned(joints, "z"), turned(rest, "z")).up == "z"


def test_upside_down_through_the_clip_is_no_other_axis() -> None:
    joints = walking() * [1, -1, -1]
    joints[..., 1] -= joints[..., 1].min()
    assert find_upright(joints).up == "y"
    assert find_upright(joints, walking()[0]).up == "y"


def test_a_rest_pose_of_other_axes_than_the_motion_is_told() -> None:
    """As exporters of body models write z up motions: the root turns the upright rest pose."""
    found = find_upright(turned(walking(), "z"), walking()[0])
    assert found.up == "z"
    assert "--up y" in found.doubts[0]


def test_left_handed_axes_are_told_and_mirrored() -> None:
    joints = walking()
    joints[:, [4, 5], 2] += 0.05  # knees that bend a little, as people's do
    joints[:, [10, 11], 2] = joints[:, [7, 8], 2] + 0.15
    assert not find_upright(joints).doubts
    found = find_upright(joints * [-1, 1, 1])
    assert "left-handed" in found.doubts[0]
    np.testing.assert_allclose(found.placed(joints * [-1, 1, 1]), joints)


def test_what_is_no_person_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    for joints in (rng.normal(size=(20, 22, 3)) * 50, np.zeros((3, 22, 3)), np.full((2, 22, 3), 90.0)):
        assert not is_person(joints)
        found = find_upright(joints)
        assert (found.up, found.unit, found.notes, found.doubts) == ("y", "m", (), ())
        assert found.placed(joints) is joints


def test_a_size_that_fits_no_unit_is_scaled_and_doubted() -> None:
    found = find_upright(walking() * 15)
    assert "fits no unit" in found.doubts[0]
    assert is_person(walking())
    np.testing.assert_allclose(
        np.ptp(found.placed(walking() * 15), axis=(0, 1)), np.ptp(walking(), axis=(0, 1)), rtol=0.1
    )
    assert not find_upright(walking() * 15, usual=None).doubts  # where the figure gets a size of its own anyway


def test_a_first_frame_that_is_none_of_the_recording() -> None:
    motion = invented(0, frames=30, fps=120, wildness=0.02).joints.astype(np.float64)
    pose, walk = standing(1)[0].copy(), person(60, speed=0.5).astype(np.float64)
    pose[[18, 20]] = pose[16] + np.array([[0.26, 0, 0], [0.52, 0, 0]])
    pose[[19, 21]] = pose[17] - np.array([[0.26, 0, 0], [0.52, 0, 0]])
    assert has_leading_t_pose(np.concatenate([pose[None], walk]))
    assert has_leading_t_pose(np.concatenate([pose[None], walk]) @ np.diag([1.0, -1, -1]))
    assert not has_leading_t_pose(walk)
    assert not has_leading_t_pose(np.concatenate([walk[:1] + 3, walk]))  # moved, but no other pose
    assert not has_leading_t_pose(motion)
    posed = np.concatenate([motion[25:26] * [1, 1, -1], walk])
    assert not has_leading_t_pose(posed)
    assert has_leading_t_pose(posed, rest=posed[0])


def test_a_figure_far_under_the_floor_is_put_on_it() -> None:
    joints = walking()
    assert on_floor(joints) == (joints, ())
    found, (note,) = on_floor(joints - joints[:, :1])
    np.testing.assert_allclose(found[..., 1].min(), 0, atol=1e-9)
    assert "never moves" in note
    found, (note,) = on_floor(joints - [0, 0.9, 0])
    np.testing.assert_allclose(found, joints, atol=1e-6)
    assert "never moves" not in note
    down = joints - np.linspace([0, 0, 0], [0, 2, 0], len(joints))[:, None]  # a flight of stairs
    assert on_floor(down)[1] == ()


@pytest.mark.slow
def test_no_recording_is_turned(mocap_dir: Path) -> None:
    """People who lie, crawl and roll among them."""
    for motion in recorded(mocap_dir, "test", 60):
        found = find_upright(motion.joints)
        assert (found.up, found.unit) == ("y", "m"), motion.name
        assert found.placed(motion.joints) is motion.joints
