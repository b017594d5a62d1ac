"""Where a person faces, moving rigidly, and poses put together again from their bones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.poses import (
    align,
    assemble,
    bone_lengths,
    bone_vectors,
    checked_joints,
    ground_height,
    heading,
    rotate,
    wrapped,
)


@given(yaw=st.floats(-3.1, 3.1), x=st.floats(-5, 5), z=st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_align_moves_rigidly_to_where_it_is_told(yaw: float, x: float, z: float) -> None:
    walk = person(speed=1.2)
    moved = align(walk, (x, z), yaw)
    assert np.allclose(moved[0, 0, [0, 2]], (x, z), atol=1e-5)
    assert abs(np.angle(np.exp(1j * (heading(moved[:1])[0] - yaw)))) < 1e-4
    assert np.allclose(moved[..., 1], walk[..., 1], atol=1e-5)
    assert np.allclose(
        np.linalg.norm(moved - moved[:1, :1], axis=-1), np.linalg.norm(walk - walk[:1, :1], axis=-1), atol=1e-4
    )


def test_heading_is_zero_facing_z_and_positive_to_the_left() -> None:
    assert np.allclose(heading(person()), 0, atol=1e-5)
    assert np.allclose(heading(align(person(), (0, 0), 0.5)), 0.5, atol=1e-5)
    left = align(person(speed=1.0), (0, 0), np.pi / 2)
    assert left[-1, 0, 0] > 1, "the person's left is +x"


def test_a_pose_is_put_together_again_from_its_bones() -> None:
    walk = person(speed=1.0).astype(np.float64)
    again = assemble(walk[:, 0], bone_vectors(walk), bone_lengths(walk))
    np.testing.assert_allclose(again, walk, atol=1e-9)
    longer = assemble(walk[:, 0], bone_vectors(walk), 2 * bone_lengths(walk)[0])
    np.testing.assert_allclose(bone_lengths(longer), 2 * bone_lengths(walk), atol=1e-6)


def test_turning_left_takes_z_to_x_and_angles_stay_within_half_a_turn() -> None:
    np.testing.assert_allclose(rotate(np.array([0.0, 2, 1]), np.pi / 2), [1, 2, 0], atol=1e-12)
    np.testing.assert_allclose([wrapped(3 * np.pi / 2), wrapped(-4.0), wrapped(0.5)], [-np.pi / 2, 2 * np.pi - 4, 0.5])


def test_the_ground_is_where_an_end_stands_unless_that_is_nearly_the_floor() -> None:
    joints = person(60).astype(np.float64)
    joints[..., 1] += np.repeat([0, 0.3], 30)[:, None] - joints[..., 1].min()
    assert ground_height(joints, at_end=False) == 0
    assert ground_height(joints, at_end=True) == pytest.approx(0.3, abs=0.02)
    joints[30:, :, 1] -= 0.25
    assert ground_height(joints, at_end=True) == 0


@pytest.mark.parametrize("shape", [(0, 22, 3), (4, 21, 3), (22, 3)])
def test_joints_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MotionGPT3Error, match=r"must have shape \(frames, 22, 3\)"):
        checked_joints(np.zeros(shape))
