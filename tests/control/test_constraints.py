"""Constraints: what is taken, and the one line for what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from people import person

from motiongpt3 import Motion, MotionGPT3Error
from motiongpt3.control import constraints as c

POSE = person(1)[0]


def refused(*given: Any, frames: int = 80, fps: float = 20.0) -> str:
    with pytest.raises(MotionGPT3Error) as caught:
        c.resolve(given, frames, fps)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: c.RootPath(seconds=[0, 1], xz=[[0, 0], [0, float("nan")]]), "NaN"),
        (lambda: c.RootPath(seconds=[0, 1], xz=[[0, 0]]), "1 positions and 2 seconds"),
        (lambda: c.RootPath(xz=[[0, 0]]), "either seconds or frames"),
        (lambda: c.RootPath(frames=[0.5], xz=[[0, 0]]), "whole numbers"),
        (lambda: c.RootPath(frames=[-1], xz=[[0, 0]]), "before the motion begins"),
        (lambda: c.RootPath(frames=[3, 3], xz=[[0, 0], [0, 0]]), "twice"),
        (lambda: c.RootPath(frames=[], xz=np.zeros((0, 2))), "empty"),
        (lambda: c.RootPath(frames=[0], xz=[[0, 0]], headings=[[0, 0]]), "faces nowhere"),
        (lambda: c.RootPath(frames=[0], xz=[[0, 5000]]), "in metres"),
        (lambda: c.RootPath(frames="soon", xz=[[0, 0]]), "must be numbers"),
        (lambda: c.Keyframe(seconds=1, pose=POSE[:21]), r"\(22, 3\)"),
        (lambda: c.Keyframe(seconds=1, pose=Motion(person(3))), "one pose, not 3"),
        (lambda: c.Keyframe(seconds=1, pose=POSE, joints=["tail"]), "no joint 'tail'"),
        (lambda: c.Keyframe(seconds=1, pose=POSE, joints=[]), "no joints"),
        (lambda: c.EffectorTarget("third_hand", frames=0, positions=[0, 1, 0]), "no joint 'third_hand'"),
        (lambda: c.EffectorTarget("left_hand", frames=[0, 1], positions=[0, 1, 0]), "1 positions and 2 frames"),
        (lambda: c.Contact("head", 0, 1), "left_foot or the right_foot"),
        (lambda: c.Contact("left_foot", 2, 1), "end after it starts"),
    ],
)
def test_what_is_no_constraint_is_refused_when_it_is_made(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(MotionGPT3Error, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_plain_names_mean_joints() -> None:
    names = {
        "left_hand": "l_wrist",
        "Right Hand": "r_wrist",
        "left-foot": "l_foot",
        "right_knee": "r_knee",
        "head": "head",
    }
    assert {name: c.joint_index(name) for name in names} == {n: c.HUMANML3D.index(j) for n, j in names.items()}


def test_seconds_and_frames_are_the_same_times() -> None:
    by_time, by_frame = (
        c.resolve([c.RootPath(xz=[[0, 0], [0, 1]], **when)], 80, 20)[0][0]
        for when in ({"seconds": [0, 2.0]}, {"frames": [0, 40]})
    )
    assert by_time.frames.tolist() == by_frame.frames.tolist() == [0, 40]
    assert by_time.positions[1, 0, [0, 2]].tolist() == [0, 1]


def test_the_end_of_a_motion_is_its_last_frame() -> None:
    [found] = c.resolve([c.RootPath(seconds=[4], xz=[[0, 0]])], 80, 20).constraints
    assert found.frames.tolist() == [79]


def test_headings_come_as_radians_or_as_cosine_and_sine() -> None:
    angles = np.array([0.3, -2.0])
    both = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * 2
    for given in (angles, both):
        [found] = c.resolve([c.RootPath(frames=[0, 9], xz=np.zeros((2, 2)), headings=given)], 80, 20).constraints
        np.testing.assert_allclose(found.headings, angles)


def test_impossible_wishes_are_named_with_what_they_miss() -> None:
    hand = c.EffectorTarget("left_hand", seconds=1, positions=[0, 3, 0])
    assert "l_wrist 3.00 m up at 1 s" in refused(hand)
    assert "higher than" in refused(hand)
    assert "7.5 m/s more" in refused(c.RootPath(seconds=[0, 1], xz=[[0, 0], [0, 20]]))
    foot = c.EffectorTarget("left_foot", frames=20, positions=[0, 0, 2])
    assert "m more than the bones between them" in refused(foot, c.RootPath(frames=[20], xz=[[0, 0]]))
    late = c.Keyframe(seconds=9, pose=POSE)
    assert "frames 0 to 79" in refused(late)
    assert "5.05 s too late" in refused(late)


def test_two_poses_in_one_frame_are_refused_and_the_same_pose_twice_is_not() -> None:
    other = POSE + np.array([0.5, 0, 0])
    assert "0.50 m apart at 1 s (frame 20)" in refused(
        c.Keyframe(frame=20, pose=POSE), c.Keyframe(frame=20, pose=other)
    )
    found = c.resolve([c.Keyframe(frame=20, pose=POSE), c.Keyframe(frame=20, pose=POSE)], 80, 20)
    assert not found.problems


def test_the_best_effort_says_what_cannot_be_and_keeps_the_rest() -> None:
    given = [c.Keyframe(seconds=9, pose=POSE), c.RootPath(seconds=[0, 1, 8], xz=[[0, 0], [0, 1], [0, 2]])]
    found = c.resolve(given, 80, 20, best_effort=True)
    assert [one.frames.tolist() for one in found.constraints] == [[0, 20]]
    assert len(found.problems) == 2


def test_what_is_no_list_of_constraints_is_refused() -> None:
    assert "are a list" in refused_list(c.Contact("left_foot", 0, 1))
    assert "not dict" in refused_list([{"type": "root2d"}])
    assert "10000 at most" in refused_list([c.Contact("left_foot", 0, 1)] * 10_001)


def refused_list(given: Any) -> str:
    with pytest.raises(MotionGPT3Error) as caught:
        c.check_constraints(given)
    return str(caught.value)


def test_ten_thousand_constraints_are_checked() -> None:
    keys = [c.Keyframe(frame=n % 80, pose=POSE) for n in range(10_000)]
    assert not c.resolve(keys, 80, 20).problems


def test_poses_of_a_body_a_little_longer_agree_with_places_of_the_same_recording() -> None:
    longer = POSE * 1.001
    given = [c.Keyframe(longer, frame=20), c.Keyframe(longer, frame=20, joints=("l_ankle", "l_foot")), hand_of(longer)]
    found = c.resolve(given, 80, 20)
    assert not found.problems
    pose = found.constraints[0].positions[0]
    np.testing.assert_allclose(found.constraints[1].positions[0], pose[[7, 10]], atol=1e-12)
    np.testing.assert_allclose(found.constraints[2].positions[0, 0], pose[20], atol=1e-12)
    np.testing.assert_allclose(pose[0], longer[0], atol=1e-6)


def hand_of(pose: np.ndarray) -> c.EffectorTarget:
    return c.EffectorTarget("left_hand", pose[20], frames=20)
