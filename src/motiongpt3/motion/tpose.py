"""The T-pose and the rotations that take it to a motion: what files and rigs of other programs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.motion.kinematics import bone_vectors, inverse, set_bone_lengths, unit
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

_T_POSE = {
    "l_hip": (0.91, -0.41, 0.02), "r_hip": (-0.91, -0.41, 0.02), "l_knee": (0, -1, 0), "r_knee": (0, -1, 0),
    "l_ankle": (0, -1, 0), "r_ankle": (0, -1, 0),
    "spine3": (0, 1, 0.1), "neck": (0, 1, 0.1), "head": (0, 1, 0.2),
    "l_collar": (0.5, 0.86, 0.05), "r_collar": (-0.5, 0.86, 0.05),
    "l_shoulder": (0.97, 0.07, -0.22), "r_shoulder": (-0.97, 0.07, -0.22),
    "l_elbow": (1, 0, 0), "r_elbow": (-1, 0, 0), "l_wrist": (1, 0, 0), "r_wrist": (-1, 0, 0),
}  # fmt: skip
"""Directions of the bones in the rest pose; those not named point up. Limbs make a T; the trunk is as in people who
stand, so that a skin made for the T-pose fits these without bending."""
_LEGS = ((4, 7, 10), (5, 8, 11))
"""Joints at which thigh, shin and foot end."""
_PITCH = 0.5
"""How far a foot of length 1 goes down from ankle to toes where no frame tells."""


@dataclass(frozen=True)
class Fitted:
    """A motion as turns from the T-pose.

    Attributes:
        directions: (22, 3) unit vectors along the bones in the T-pose; that of the root is of no use.
        rest: (22, 3) offset of each joint from its parent in the T-pose in metres; zero for the root.
        root: (T, 3) position of the hips in metres.
        rotations: (T, 22, 3, 3) rotation of each bone relative to its parent bone; all are identities in the T-pose.
    """

    directions: NDArray[np.float64]
    rest: NDArray[np.float64]
    root: NDArray[np.float64]
    rotations: torch.Tensor


def fit(motion: Motion) -> Fitted:
    """Rest offsets and rotations for a motion of HumanML3D's skeleton.

    A bone has one length: the mean over the clip. Each joint is aimed at where it was, so what the lengths lose
    hardly adds up along a limb. Knees and ankles are hinges: see `_hinge_legs`.
    """
    joints = torch.from_numpy(motion.joints.astype(np.float64))
    lengths = torch.linalg.norm(bone_vectors(joints), dim=-1).mean(0)
    directions = t_pose(standing_pitch(motion))
    rest = torch.from_numpy(directions)
    fitted = set_bone_lengths(joints, lengths, follow=True)
    turned = _hinge_legs(inverse(fitted, rest=rest), rest)
    return Fitted(directions, (rest * lengths[:, None]).numpy(), fitted[:, 0].numpy(), turned)


def t_pose(pitch: float = _PITCH) -> NDArray[np.float64]:
    """(22, 3) unit vectors along the bones in the T-pose, whose feet go down by `pitch` per length; (0, 1, 0) for the
    root."""
    directions = np.array([_T_POSE.get(name, (0, 1, 0)) for name in HUMANML3D.names], dtype=np.float64)
    directions[[_LEGS[0][2], _LEGS[1][2]]] = (0, -pitch, np.sqrt(1 - pitch**2))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def standing_pitch(motion: Motion) -> float:
    """How far down a foot of length 1 goes from ankle to toes while it stands: the median over both feet.

    Recordings put these joints at other places of the foot, from 0.2 to 0.65, and soles are to be flat in all.
    """
    downs = []
    for _, ankle, toes in _LEGS:
        ends = motion.joints[:, [ankle, toes]].astype(np.float64)
        step = np.diff(ends, axis=0, append=ends[-1:])
        slow = np.linalg.norm(step, axis=-1).max(-1) * motion.fps < 0.15
        low = ends[:, 1, 1] < motion.joints[..., 1].min() + 0.06
        bone = ends[:, 1] - ends[:, 0]
        down = -bone[:, 1] / np.maximum(np.linalg.norm(bone, axis=-1), 1e-8)
        downs.append(down[slow & low & (down > 0.1) & (down < 0.8)])
    standing = np.concatenate(downs)
    return float(np.median(standing)) if len(standing) else _PITCH


def _hinge_legs(local: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """Twist thighs, shins and feet about themselves until one axis across serves them all: (T, 22, 3, 3) -> the same.

    `inverse` gives bones no twist, so a foot that is turned outwards would roll onto its edge. The axis stands on
    shin and foot; as far as these are in line (a pointed foot), the bend of the knee and then the axis that the bones
    had without twist decide. No joint moves.
    """
    turned: list[torch.Tensor] = []
    for joint, parent in enumerate(HUMANML3D.parents):
        turned.append(local[:, joint] if parent < 0 else turned[parent] @ local[:, joint])
    across = torch.tensor([1.0, 0.0, 0.0], dtype=local.dtype)
    for bones in _LEGS:
        thigh, shin, foot = ((turned[bone] @ rest[bone][:, None])[..., 0] for bone in bones)
        by_foot = torch.linalg.cross(foot, shin)
        in_line = (1 - by_foot.norm(dim=-1, keepdim=True) / 0.5).clamp(min=0)
        by_knee = torch.linalg.cross(thigh, shin)
        axis = by_foot + in_line * (by_knee + 0.1 * turned[bones[1]][..., 0])
        for bone, along in zip(bones, (thigh, shin, foot), strict=True):
            flat = axis - (axis * along).sum(-1, keepdim=True) * along
            side = unit(flat, otherwise=turned[bone][..., 0])
            posed = torch.stack([side, along, torch.linalg.cross(side, along)], dim=-1)
            resting = torch.stack([across, rest[bone], torch.linalg.cross(across, rest[bone])], dim=-1)
            turned[bone] = posed @ resting.T
    changed = local.clone()
    for bones in _LEGS:
        for parent, bone in pairwise([HUMANML3D.parents[bones[0]], *bones]):
            changed[:, bone] = turned[parent].transpose(-1, -2) @ turned[bone]
    return changed
