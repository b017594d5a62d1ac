"""Measures of made-up bodies: each number is known from how the body was made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from people import person, standing

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.body_measures import LEG, Measures
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import align, bone_lengths, rotate
from motiongpt3.motion.skeleton import HUMANML3D

SHARE = LEG / float(bone_lengths(standing(1))[0, [4, 5, 7, 8]].sum() / 2)
"""By how much everybody is scaled."""


def test_who_stands_does_nothing() -> None:
    found = Measures(Motion(standing(60)))
    assert found.seconds == 3
    for name in ("turn", "forward", "left", "speed", "roam", "stride", "flight", "clearance"):
        assert getattr(found, name) == pytest.approx(0, abs=1e-5), name
    assert found.pelvis_start == pytest.approx(SHARE * standing(1)[0, 0, 1], abs=1e-4)
    assert found.left_side.sign == -found.right_side.sign == 1


@pytest.mark.parametrize("fps", [20, 40])
@pytest.mark.parametrize("yaw", [0.0, 2.0])
def test_way_and_speed_are_along_the_facing(fps: int, yaw: float) -> None:
    """A body that glides 1 m/s ahead and half of that to its left, wherever it faces."""
    time = np.arange(4 * fps)[:, None, None] / fps
    joints = align((standing(4 * fps) + time * [0.5, 0, 1]).astype(np.float32), (3, 3), yaw)
    found = Measures(Motion(joints, fps))
    assert found.forward_speed == pytest.approx(SHARE, rel=0.06)
    assert found.left_speed == pytest.approx(0.5 * SHARE, rel=0.06)
    assert found.left == pytest.approx(found.forward / 2, rel=1e-3)
    assert found.forward == pytest.approx(4 * SHARE, rel=0.06)
    assert found.roam == pytest.approx(np.hypot(found.forward, found.left), rel=1e-3)


def test_a_turn_to_the_left_counts_in_degrees() -> None:
    body = standing(80)
    joints = rotate(body, np.linspace(0, np.pi / 2, 80)[:, None])
    found = Measures(Motion(joints))
    assert found.turn == pytest.approx(90, abs=8)
    assert found.turn_left == pytest.approx(90, abs=5)
    assert found.turn_right == pytest.approx(0, abs=3)
    assert Measures(Motion(joints[::-1].copy())).turn == pytest.approx(-found.turn, abs=1e-3)


def test_a_raised_arm_is_that_of_its_side() -> None:
    found = Measures(Motion(person(60, arm=np.pi / 2)))
    assert found.left_side.raised == 0
    assert found.right_side.raised > 0.5
    assert found.right_side.reach_out == pytest.approx(SHARE * bone_lengths(standing(1))[0, [19, 21]].sum(), rel=0.02)
    assert found.right_side.plane == pytest.approx(0, abs=3)
    assert found.right_side.elbow_at_top == pytest.approx(180, abs=1)


def test_a_jump_is_flight_and_a_squat_is_low() -> None:
    joints = standing(60)
    joints[20:30, :, 1] += 0.2
    found = Measures(Motion(joints))
    assert found.flight == pytest.approx(10 / 60, abs=2.5 / 60)
    assert found.clearance == pytest.approx(0.2 * SHARE, abs=0.01)
    assert found.pelvis_high - found.pelvis_low == pytest.approx(0.2 * SHARE, abs=1e-3)


def test_size_does_not_matter() -> None:
    walk = person(60, speed=1.2)
    small, large = Measures(Motion(0.5 * walk)), Measures(Motion(2 * walk))
    for name in ("forward", "speed", "stride", "pelvis_low", "lean"):
        assert getattr(small, name) == pytest.approx(getattr(large, name), rel=1e-3), name


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MotionGPT3Error, match="too short to judge"):
        Measures(Motion(standing(4)))
    other = replace(HUMANML3D, names=tuple(f"x{name}" for name in HUMANML3D.names))
    with pytest.raises(MotionGPT3Error, match="need the 22 HumanML3D joints"):
        Measures(Motion(standing(20), skeleton=other))
