"""Properties of the kinematics: FK undoes IK, rotations are rotations, turning the world turns only the root."""

from __future__ import annotations

from functools import partial

import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from motiongpt3.motion import kinematics
from motiongpt3.motion.kinematics import forward, pose_joints, set_bone_lengths, shortest_arc
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.skeleton import HUMANML3D

REST = torch.from_numpy(HUMANML3D.rest_offsets).double()
inverse = partial(kinematics.inverse, rest=REST)
unit = partial(normalize, dim=-1)
seeds = st.integers(0, 2**31 - 1)


def random_joints(seed: int, frames: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotations = roma.rotvec_to_rotmat(torch.randn(frames, 22, 3, generator=generator, dtype=torch.float64))
    return forward(rotations, REST, torch.randn(frames, 3, generator=generator, dtype=torch.float64))


def degenerate_joints() -> torch.Tensor:
    """All joints in one place; a straight line; bones opposite to the rest pose."""
    line = torch.arange(22.0, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    upside_down = forward(torch.eye(3, dtype=torch.float64).expand(22, 3, 3), -REST, torch.zeros(3).double())
    return torch.stack([torch.zeros(22, 3, dtype=torch.float64), line, upside_down])


def is_rotation(matrices: torch.Tensor, tolerance: float = 1e-9) -> bool:
    eye = torch.eye(3, dtype=matrices.dtype)
    orthonormal = (matrices @ matrices.transpose(-1, -2) - eye).abs().max() < tolerance
    return bool(orthonormal and (torch.linalg.det(matrices) - 1).abs().max() < tolerance)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds)
def test_forward_undoes_inverse(seed: int) -> None:
    joints = random_joints(seed)
    rotations = inverse(joints)
    assert is_rotation(rotations)
    torch.testing.assert_close(forward(rotations, REST, joints[:, 0]), joints, atol=1e-9, rtol=0)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds)
def test_positions_without_any_skeleton_are_reached_too(seed: int) -> None:
    joints = torch.randn(4, 22, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    offsets = unit(REST) * bone_vectors(joints).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(forward(inverse(joints), offsets, joints[:, 0]), joints, atol=1e-9, rtol=0)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds, seeds)
def test_turning_the_world_turns_only_the_root(seed: int, other: int) -> None:
    joints = random_joints(seed)
    turn = roma.rotvec_to_rotmat(3 * torch.randn(3, generator=torch.Generator().manual_seed(other)).double())
    still, turned = inverse(joints), inverse(joints @ turn.T)
    torch.testing.assert_close(turned[:, 1:], still[:, 1:], atol=1e-7, rtol=0)
    torch.testing.assert_close(turned[:, 0], turn @ still[:, 0], atol=1e-7, rtol=0)


def test_files_may_have_several_roots() -> None:
    """A joint turns what hangs from it, and a second root lies where its own offset says."""
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, torch.pi / 2, 0.0]).double())
    rotations = torch.stack([turn, turn, torch.eye(3).double()])
    offsets = torch.tensor([[0.0, 1, 0], [1, 0, 0], [5, 0, 0]]).double()
    world, places = pose_joints(rotations, offsets, [-1, 0, -1])
    torch.testing.assert_close(places, torch.tensor([[0.0, 1, 0], [0, 1, -1], [5, 0, 0]]).double())
    torch.testing.assert_close(world[1], turn @ turn)


def test_degenerate_poses_give_rotations() -> None:
    joints = degenerate_joints()
    rotations = inverse(joints)
    assert torch.isfinite(rotations).all()
    assert is_rotation(rotations)
    offsets = unit(REST) * bone_vectors(joints).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(forward(rotations, offsets, joints[:, 0]), joints, atol=1e-9, rtol=0)


def test_the_rest_pose_needs_no_rotation() -> None:
    rest = forward(torch.eye(3).expand(22, 3, 3).double(), REST, torch.zeros(3).double())
    torch.testing.assert_close(inverse(rest), torch.eye(3).double().expand(22, 3, 3), atol=1e-6, rtol=0)


def test_shoulders_turned_against_the_hips_twist_the_spine_evenly() -> None:
    rest = forward(torch.eye(3).expand(22, 3, 3).double(), REST, torch.zeros(3).double())
    upper = [12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.6, 0.0]).double())
    rest[upper] = rest[upper] @ turn.T
    angles = roma.rotmat_to_rotvec(inverse(rest))
    torch.testing.assert_close(angles[[3, 6, 9]], torch.tensor([[0, 0.2, 0.0]] * 3).double(), atol=1e-6, rtol=0)
    assert angles[upper].abs().max() < 1e-5


def test_batches_and_single_poses_agree() -> None:
    joints = random_joints(3, frames=12)
    batched = inverse(joints.reshape(3, 4, 22, 3))
    torch.testing.assert_close(batched.reshape(12, 22, 3, 3), inverse(joints))
    torch.testing.assert_close(inverse(joints[5]), inverse(joints)[5])


def test_float32_stays_accurate() -> None:
    joints = random_joints(1, frames=50).float()
    back = forward(inverse(joints), REST.float(), joints[:, 0])
    assert (back - joints).abs().max() < 1e-4


@settings(max_examples=25, deadline=None)
@given(seeds, st.booleans())
def test_bone_lengths_are_set(seed: int, follow: bool) -> None:
    joints = random_joints(seed) * 1.7 + torch.randn(6, 22, 3).double() * 0.02
    placed = set_bone_lengths(joints, follow=follow)
    lengths = bone_vectors(placed).norm(dim=-1)
    wanted = torch.from_numpy(HUMANML3D.bone_lengths).double().expand_as(lengths)
    torch.testing.assert_close(lengths, wanted, atol=1e-9, rtol=0)
    torch.testing.assert_close(placed[:, 0], joints[:, 0])
    if not follow:
        torch.testing.assert_close(unit(bone_vectors(placed)), unit(bone_vectors(joints)), atol=1e-9, rtol=0)


def test_following_keeps_length_errors_from_adding_up() -> None:
    joints = random_joints(0, frames=200)
    longer = torch.from_numpy(HUMANML3D.bone_lengths).double() + 0.01
    plain = (set_bone_lengths(joints, longer) - joints).norm(dim=-1)
    followed = (set_bone_lengths(joints, longer, follow=True) - joints).norm(dim=-1)
    assert followed.mean() < 0.6 * plain.mean()
    assert followed.max() < plain.max()


def test_a_bone_without_length_keeps_its_rest_direction() -> None:
    placed = set_bone_lengths(torch.zeros(1, 22, 3).double())
    torch.testing.assert_close(unit(bone_vectors(placed))[0, 1:], unit(REST)[1:], atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_shortest_arc_takes_start_to_end_by_the_smallest_angle(seed: int) -> None:
    start, end = unit(torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    end[0], end[1] = start[0], -start[1]
    arc = shortest_arc(start, end)
    assert is_rotation(arc)
    torch.testing.assert_close((arc @ start[..., None])[..., 0], end, atol=1e-9, rtol=0)
    between = torch.atan2(torch.linalg.cross(start, end).norm(dim=-1), (start * end).sum(-1))
    torch.testing.assert_close(roma.rotmat_to_rotvec(arc).norm(dim=-1), between, atol=1e-6, rtol=0)


def test_gradients_of_forward_are_those_of_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    rotvec = (torch.randn(1, 22, 3, dtype=torch.float64, generator=generator) * 0.5).requires_grad_()
    root = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)

    def error(rotvec: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
        return forward(roma.rotvec_to_rotmat(rotvec), REST, root).square().sum()

    assert torch.autograd.gradcheck(error, (rotvec, root))
