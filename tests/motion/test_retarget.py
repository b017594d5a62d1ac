"""Retargeting keeps poses, scales the path by the legs and leaves the floor where it was."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import forward
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.retarget import leg_length, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D

OFFSETS = torch.from_numpy(HUMANML3D.rest_offsets).double()


def clip(seed: int = 0, frames: int = 10) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    rotations = roma.rotvec_to_rotmat(0.4 * torch.randn(frames, 22, 3, generator=generator, dtype=torch.float64))
    root = torch.randn(frames, 3, generator=generator, dtype=torch.float64) + torch.tensor([0, 1.0, 0])
    return forward(rotations, OFFSETS, root).numpy()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_the_unit_of_the_source_does_not_matter(seed: int, scale: float) -> None:
    joints = clip(seed)
    np.testing.assert_allclose(to_skeleton(joints * scale), joints, atol=1e-5)


def test_bones_get_the_lengths_and_keep_their_directions() -> None:
    joints = clip(1)
    rng = np.random.default_rng(0)
    stretch = torch.from_numpy(rng.uniform(0.7, 1.4, (22, 1)))
    vectors = bone_vectors(torch.from_numpy(joints)) * stretch
    other = forward(torch.eye(3).double().expand(10, 22, 3, 3), vectors, torch.from_numpy(joints[:, 0]))
    placed = torch.from_numpy(to_skeleton(other.numpy()))
    lengths = bone_vectors(placed).norm(dim=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(HUMANML3D.bone_lengths, lengths.shape), atol=1e-5)
    directions = (normalize(found, dim=-1) for found in (bone_vectors(placed.double()), vectors))
    torch.testing.assert_close(*directions, atol=1e-4, rtol=0)


def test_stride_and_floor_follow_the_legs() -> None:
    joints = clip(2)
    legs = joints.copy()
    for knee, ankle in ((4, 7), (5, 8)):
        for joint in (knee, ankle):
            below = [j for j in range(22) if j == joint or (joint in (4, 5) and j in (ankle,)) or j == ankle + 3]
            legs[:, below] += joints[:, joint, None] - joints[:, HUMANML3D.parents[joint], None]
    assert leg_length(legs) == pytest.approx(2 * leg_length(joints))
    placed = to_skeleton(legs)
    np.testing.assert_allclose(
        np.diff(placed[:, 0, [0, 2]], axis=0), np.diff(legs[:, 0, [0, 2]], axis=0) / 2, atol=1e-5
    )
    feet = list(HUMANML3D.contacts)
    assert placed[:, feet, 1].min() == pytest.approx(legs[:, feet, 1].min() / 2, abs=1e-5)


@pytest.mark.parametrize(
    "joints", [np.zeros((3, 21, 3)), np.zeros((22, 3)), np.zeros((0, 22, 3)), np.zeros((2, 22, 3))]
)
def test_what_cannot_be_retargeted_is_refused(joints: np.ndarray) -> None:
    with pytest.raises(MotionGPT3Error):
        to_skeleton(joints)
