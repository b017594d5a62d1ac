"""Joints <-> features: the published numbers, round trips, mirroring, batching, gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import (
    canonicalise,
    feature_size,
    feature_slices,
    features_to_joints,
    joints_to_features,
    mirror_features,
)
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

FLAT = torch.tensor([1.0, 0.0, 1.0])


def random_motion(frames: int, seed: int = 0, batch: tuple[int, ...] = ()) -> Tensor:
    """(*batch, frames, 22, 3): bones that swing smoothly about a standing pose, walking and turning."""
    rng = np.random.default_rng(seed)
    standing = HUMANML3D.rest_offsets.copy()
    standing[16, :], standing[17, :] = (0.13, 0, 0), (-0.12, 0, 0)
    time = np.arange(frames)
    joints = np.zeros((*batch, frames, 22, 3))
    for at in np.ndindex(*batch):
        root = np.stack([0.02 * time, 0.95 + 0.02 * np.sin(time / 5), 0.01 * rng.normal() * time], axis=-1)
        joints[at][:, 0] = root
        for joint in range(1, 22):
            swing = 0.3 * np.sin(rng.normal(size=3) + time[:, None] * rng.uniform(0.02, 0.2, size=3))
            bone = standing[joint] + swing * np.linalg.norm(standing[joint])
            bone *= HUMANML3D.bone_lengths[joint] / np.linalg.norm(bone, axis=-1, keepdims=True)
            joints[at][:, joint] = joints[at][:, HUMANML3D.parents[joint]] + bone
        yaw = rng.normal() + rng.normal() * 0.05 * time
        rotation = np.stack([[np.cos(yaw), 0 * yaw, np.sin(yaw)], [0 * yaw, 0 * yaw + 1, 0 * yaw],
                             [-np.sin(yaw), 0 * yaw, np.cos(yaw)]]).transpose(2, 0, 1)  # fmt: skip
        joints[at] = np.einsum("tij,tkj->tki", rotation, joints[at] - root[:, None]) + root[:, None]
    return torch.from_numpy(joints).float()


def mirror(joints: Tensor) -> Tensor:
    return joints[..., torch.from_numpy(HUMANML3D.mirror_permutation), :] * torch.tensor([-1.0, 1.0, 1.0])


def test_slices_tile_the_263_channels_of_humanml3d() -> None:
    where = feature_slices()
    assert feature_size() == 263
    assert (where.positions, where.rotations, where.velocities) == (slice(4, 67), slice(67, 193), slice(193, 259))
    assert [group.start for group in where[1:]] == [group.stop for group in where[:-1]]


def test_recovery_equals_the_recorded_joints(parity_file) -> None:
    record = np.load(parity_file("feats_012314.npz"))
    joints = features_to_joints(torch.from_numpy(record["vecs"]))
    assert np.abs(joints.numpy() - record["recovered_from_ric"]).max() <= 1e-5


def test_extraction_equals_the_recorded_features(parity_file) -> None:
    record = np.load(parity_file("feats_012314.npz"))
    features = joints_to_features(torch.from_numpy(record["joints"]), drop_last=True).numpy()
    assert features.shape == (169, 263)
    assert np.abs(features - record["extracted_from_joints"]).max() <= 1e-4
    assert np.abs(features[:-60] - record["vecs"][: len(features) - 60]).max() <= 1e-4
    assert np.array_equal(features[:, 259:], record["vecs"][:169, 259:])


def chain_forward_kinematics(features: Tensor, joints: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Joints from the 6D rotations, the root's path and the bone lengths of `joints`."""
    where = feature_slices(skeleton)
    columns = features[:, where.rotations].unflatten(-1, (len(skeleton) - 1, 2, 3))
    x, y = columns.unbind(-2)
    local = torch.stack([x, y, torch.cross(x, y, dim=-1)], dim=-1)
    half = torch.cumsum(torch.cat([torch.zeros(1), features[:-1, 0]]), 0)
    cos, sin, zero = torch.cos(2 * half), torch.sin(2 * half), torch.zeros_like(half)
    facing = torch.stack([cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos], -1).unflatten(-1, (3, 3))
    parents = list(skeleton.parents[1:])
    lengths = torch.cat([torch.zeros(1), (joints[0, 1:] - joints[0, parents]).norm(dim=-1)])
    directions = torch.nn.functional.normalize(torch.from_numpy(skeleton.rest_offsets), dim=-1)
    placed = [joints[:, 0]] + [torch.empty(0)] * (len(skeleton) - 1)
    for chain in skeleton.chains:
        rotation = facing
        for parent, child in itertools.pairwise(chain):
            rotation = rotation @ local[:, child - 1]
            placed[child] = placed[parent] + rotation @ (directions[child] * lengths[child])
    return torch.stack(placed, dim=1)


def test_rotations_reproduce_the_joints_given_bone_lengths() -> None:
    joints = canonicalise(random_motion(60, seed=3))
    features = joints_to_features(joints)
    assert (chain_forward_kinematics(features, joints) - joints).abs().max() < 1e-4


def test_rotations_reproduce_the_recorded_joints(parity_file) -> None:
    joints = torch.from_numpy(np.load(parity_file("feats_012314.npz"))["joints"])
    assert (chain_forward_kinematics(joints_to_features(joints), joints) - joints).abs().max() < 1e-4


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_round_trip_gives_back_the_joints(frames: int, seed: int) -> None:
    joints = canonicalise(random_motion(frames, seed))
    features = joints_to_features(joints)
    assert features.shape == (frames, 263)
    assert (features_to_joints(features) - joints).abs().max() < 1e-4
    shorter = joints_to_features(joints, drop_last=True)
    assert torch.equal(shorter[:, :259], features[:-1, :259])


def test_turning_through_the_back_keeps_the_round_trip() -> None:
    still = canonicalise(random_motion(1, seed=1))[0]
    yaw = torch.linspace(0, 6 * math.pi, 300)
    cos, sin, zero = torch.cos(yaw), torch.sin(yaw), torch.zeros(300)
    rotation = torch.stack([cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos], -1).unflatten(-1, (3, 3))
    joints = torch.einsum("tij,kj->tki", rotation, still)
    features = joints_to_features(joints)
    assert (features_to_joints(features) - (joints - joints[:1, :1] * FLAT)).abs().max() < 1e-4
    turn = features[1:-1, 0].numpy()
    assert np.all(turn[100:200] < 0)
    assert np.abs(turn).max() < 0.1, "the turn jumps where the body faces backwards"


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_mirrored_features_are_those_of_the_mirrored_joints(frames: int, seed: int) -> None:
    joints = random_motion(frames, seed)
    features = joints_to_features(joints)
    assert (mirror_features(features) - joints_to_features(mirror(joints))).abs().max() <= 1e-4
    assert torch.equal(mirror_features(mirror_features(features)), features)


def test_last_frame_repeats_the_last_velocities() -> None:
    joints = random_motion(12)
    where = feature_slices()
    features = joints_to_features(joints)
    for group in (where.root_rotation, where.root_velocity, where.velocities, where.contacts):
        assert torch.equal(features[-1, group], features[-2, group])
    assert features[-1, 3] == joints[-1, 0, 1]
    assert not torch.equal(features[-1, where.rotations], features[-2, where.rotations])


def test_one_frame_stands_still() -> None:
    features = joints_to_features(random_motion(1))
    where = feature_slices()
    assert features.shape == (1, 263)
    assert not features[:, where.velocities].any()
    assert not features[:, :3].any()
    assert features[:, where.contacts].all()
    assert joints_to_features(random_motion(1), drop_last=True).shape == (0, 263)


def test_contact_threshold_follows_the_frame_rate() -> None:
    joints = random_motion(1).repeat(3, 1, 1)
    joints[:, :, 0] += torch.tensor([0.0, 0.03, 0.06])[:, None]
    assert joints_to_features(joints, fps=20)[:, 259:].all()
    assert not joints_to_features(joints, fps=60)[:, 259:].any()


def test_batching_changes_nothing() -> None:
    joints = random_motion(25, seed=5, batch=(2, 3))
    together = joints_to_features(joints)
    assert together.shape == (2, 3, 25, 263)
    back = features_to_joints(together)
    for i, j in np.ndindex(2, 3):
        alone = joints_to_features(joints[i, j])
        assert torch.allclose(together[i, j], alone, atol=1e-6)
        assert torch.allclose(back[i, j], features_to_joints(alone), atol=1e-6)
        assert torch.allclose(canonicalise(joints)[i, j], canonicalise(joints[i, j]), atol=1e-6)


def test_canonical_motion_stands_on_the_floor_and_faces_z() -> None:
    joints = canonicalise(random_motion(20, seed=9))
    assert abs(float(joints[..., 1].min())) < 1e-6
    assert joints[0, 0, [0, 2]].abs().max() < 1e-6
    across = joints[0, 2] - joints[0, 1] + joints[0, 17] - joints[0, 16]
    assert abs(float(across[2])) < 1e-5
    assert float(across[0]) < 0
    assert torch.allclose(canonicalise(joints), joints, atol=1e-5)


def test_gradients_are_finite_both_ways() -> None:
    joints = canonicalise(random_motion(10, seed=2)).double().requires_grad_()
    where = feature_slices()
    features = joints_to_features(joints)
    features[:, : where.contacts.start].square().sum().backward()
    assert joints.grad is not None
    assert joints.grad.isfinite().all()
    assert joints.grad.abs().min(0).values.max() > 0
    leaf = features.detach().requires_grad_()
    features_to_joints(leaf).square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert leaf.grad[:-1, :67].abs().sum(0).min() > 0
    assert not leaf.grad[:, 67:].any()


def test_bones_against_their_reference_direction_stay_finite() -> None:
    joints = random_motion(4)
    for joint in (18, 19, 20, 21, 1, 2, 10, 11):
        joints[:, joint] = joints[:, HUMANML3D.parents[joint]] - torch.from_numpy(HUMANML3D.rest_offsets[joint])
    joints.requires_grad_()
    features = joints_to_features(joints)
    features[:, :259].sum().backward()
    assert features.isfinite().all()
    assert joints.grad is not None
    assert joints.grad.isfinite().all()
    with torch.no_grad():
        assert (mirror_features(features) - joints_to_features(mirror(joints))).abs().max() <= 1e-4


def test_collapsed_joints_stand_still_in_one_place() -> None:
    features = joints_to_features(torch.zeros(5, 22, 3))
    where = feature_slices()
    assert features.isfinite().all()
    for part in (where.root_rotation, where.root_velocity, where.positions):
        assert not features[..., part].any()
    assert not features_to_joints(features).any()


@pytest.mark.parametrize("shape", [(22, 3), (4, 21, 3), (0, 22, 3), (4, 22, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MotionGPT3Error, match="joints must have shape"):
        joints_to_features(torch.zeros(shape))


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(MotionGPT3Error, match="263 channels"):
        features_to_joints(torch.zeros(4, 251))
    with pytest.raises(MotionGPT3Error, match="263 channels"):
        mirror_features(torch.zeros(4, 251))
