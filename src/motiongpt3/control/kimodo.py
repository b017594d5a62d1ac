"""Constraints as Kimodo writes them: a JSON array of sets, each with `type` and `frame_indices`.

Facts (kimodo/constraints.py and its user guide): frames from 0; y up, metres, +z forward. `root2d` has
`smooth_root_2d` (K, 2) and perhaps `global_root_heading` (K, 2) as (cos, sin). `fullbody` has `local_joints_rot`
(K, J, 3) axis-angle and `root_positions` (K, 3); the sets of hands and feet have the same, but only these joints and
the hips count; `end-effector` names its joints. We read and write the 22 joints of SMPL-X's body, whose order is ours.
Sets that we write also have `joint_positions` (K, 22, 3): 22 rotations lose a centimetre or two of a pose, and a reader
that knows the name gets it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import roma
import torch

from motiongpt3.control.constraints import (
    AnyConstraint,
    Contact,
    EffectorTarget,
    Keyframe,
    RootPath,
    joint_index,
    numbers,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import pose_joints, t_pose
from motiongpt3.motion.motion import MAX_FRAMES, Motion
from motiongpt3.motion.retarget import own_rest_pose, to_rig
from motiongpt3.motion.skeleton import HUMANML3D, Array, Float64

TYPES = ("root2d", "fullbody", "left-hand", "right-hand", "left-foot", "right-foot", "end-effector")
_GROUPS = {
    "left-hand": ("l_wrist",),
    "right-hand": ("r_wrist",),
    "left-foot": ("l_ankle", "l_foot"),
    "right-foot": ("r_ankle", "r_foot"),
}
_JOINTS = {
    "hips": ("pelvis",), "lefthand": ("l_wrist",), "righthand": ("r_wrist",), "leftfoot": ("l_ankle", "l_foot"),
    "rightfoot": ("r_ankle", "r_foot"), "lefttoebase": ("l_foot",), "righttoebase": ("r_foot",), "leftleg": ("l_knee",),
    "rightleg": ("r_knee",), "leftarm": ("l_shoulder",), "rightarm": ("r_shoulder",), "leftforearm": ("l_elbow",),
    "rightforearm": ("r_elbow",),
}  # fmt: skip
"""Names of Kimodo's skeletons that mean other joints than they say."""


def from_set(entry: dict[str, Any], fps: float) -> list[AnyConstraint]:
    """The constraints of one set.

    Args:
        entry: an object of the array.
        fps: of its frame indices.

    Raises:
        MotionGPT3Error: fields missing or of another shape, or a skeleton of other joints.
    """
    kind = entry["type"]
    frames = numbers(_field(entry, "frame_indices"), f"frame_indices of {kind}", (None,), MAX_FRAMES)
    seconds = frames / fps
    if kind == "root2d":
        xz = numbers(_field(entry, "smooth_root_2d"), "smooth_root_2d", None)
        if xz.ndim == 2 and xz.shape[1] == 3:
            xz = xz[:, [0, 2]]
        return [RootPath(xz, seconds, headings=entry.get("global_root_heading"), smooth=True)]
    poses = _poses(entry, len(frames))
    if kind == "fullbody":
        return [Keyframe(pose, time) for pose, time in zip(poses, seconds.tolist(), strict=True)]
    if kind == "end-effector":
        names = _field(entry, "joint_names")
        if not isinstance(names, list) or not names or len(names) > 100:
            raise MotionGPT3Error("joint_names of an end-effector set must be a list of names")
        joints = tuple(joint for name in names for joint in _named(name))
    else:
        joints = _GROUPS[kind]
    joints = tuple(dict.fromkeys(("pelvis", *joints)))
    return [Keyframe(pose, time, joints=joints) for pose, time in zip(poses, seconds.tolist(), strict=True)]


def to_sets(constraints: Sequence[AnyConstraint], fps: float) -> list[dict[str, Any]]:
    """Constraints as sets of the array, at `fps` frames a second.

    Raises:
        MotionGPT3Error: one of a kind that the format does not have: a pelvis with its swaying, a single place of a
            joint without a pose, a contact, a pose that is not placed.
    """
    sets = []
    for given in constraints:
        if isinstance(given, RootPath) and given.smooth:
            entry: dict[str, Any] = {"type": "root2d", "frame_indices": _frames(given, fps)}
            entry["smooth_root_2d"] = np.asarray(given.xz).tolist()
            if given.headings is not None:
                angles = np.asarray(given.headings)
                entry["global_root_heading"] = np.stack([np.cos(angles), np.sin(angles)], axis=-1).tolist()
            sets.append(entry)
        elif isinstance(given, Keyframe) and given.placed:
            kind, names = "fullbody", given.joints
            if names is not None:
                kind = next((k for k, group in _GROUPS.items() if {"pelvis", *group} == set(names)), "end-effector")
            pose = np.asarray(given.pose)
            entry = {"type": kind, "frame_indices": _frames(given, fps), **_rotations(pose)}
            if kind == "end-effector":
                entry["joint_names"] = list(names or ())
            sets.append(entry)
        else:
            raise MotionGPT3Error(f"Kimodo's file has no {_name(given)}: it holds smoothed root paths and placed poses")
    return sets


def _name(given: AnyConstraint) -> str:
    if isinstance(given, RootPath):
        return "path of the pelvis itself (smooth=False)"
    if isinstance(given, Keyframe):
        return "pose that is not placed"
    return "contact" if isinstance(given, Contact) else "target of a joint without a pose"


def _frames(given: RootPath | Keyframe | EffectorTarget, fps: float) -> list[int]:
    frames = given.frame if isinstance(given, Keyframe) else given.frames
    times = np.asarray(given.seconds) * fps if frames is None else np.asarray(frames)
    return [round(time) for time in np.atleast_1d(times).tolist()]


def _field(entry: dict[str, Any], name: str) -> Any:
    if name not in entry:
        raise MotionGPT3Error(f"a {entry['type']} set has no {name}")
    return entry[name]


def _named(name: Any) -> tuple[str, ...]:
    plain = str(name)[:40].replace("_", "").replace(" ", "").lower()
    return _JOINTS.get(plain) or (HUMANML3D.names[joint_index(name)],)


def _poses(entry: dict[str, Any], count: int) -> Float64:
    """(K, 22, 3) joints: as they are written, or by forward kinematics from the T-pose."""
    kind = entry["type"]
    if "joint_positions" in entry:
        return numbers(entry["joint_positions"], f"joint_positions of {kind}", (count, len(HUMANML3D), 3))
    turns = numbers(_field(entry, "local_joints_rot"), f"local_joints_rot of {kind}", None)
    if turns.ndim != 3 or turns.shape[0] != count or turns.shape[2] != 3:
        raise MotionGPT3Error(f"local_joints_rot of {kind} must be ({count}, joints, 3), not {turns.shape}")
    if turns.shape[1] != len(HUMANML3D):
        raise MotionGPT3Error(
            f"local_joints_rot of {kind} is of a skeleton of {turns.shape[1]} joints; the 22 of SMPL-X's body are read"
        )
    roots = numbers(_field(entry, "root_positions"), f"root_positions of {kind}", (count, 3))
    return posed(torch.from_numpy(turns.copy()), roots)


def posed(rotation_vectors: torch.Tensor, roots: Array) -> Float64:
    """(K, 22, 3) joints of a body whose joints turn from the T-pose by (K, 22, 3) radians, the pelvis at (K, 3)."""
    offsets = torch.from_numpy(t_pose() * HUMANML3D.bone_lengths[:, None].astype(np.float64))
    turns = roma.rotvec_to_rotmat(rotation_vectors.double())
    placed: Float64 = pose_joints(turns, offsets, HUMANML3D.parents)[1].numpy()
    return placed - placed[:, :1] + roots[:, None]


def _rotations(pose: Array) -> dict[str, Any]:
    """`local_joints_rot`, `root_positions` and `joint_positions` of one pose."""
    motion = Motion(pose[None])
    played = to_rig(motion, own_rest_pose(motion), same_body=True)
    above = played.turns[:, [max(parent, 0) for parent in HUMANML3D.parents]].mT @ played.turns
    local = torch.cat([played.turns[:, :1], above[:, 1:]], dim=1)
    return {
        "local_joints_rot": roma.rotmat_to_rotvec(local).tolist(),
        "root_positions": [np.asarray(pose[0], dtype=np.float64).tolist()],
        "joint_positions": [np.asarray(pose, dtype=np.float64).tolist()],
    }
