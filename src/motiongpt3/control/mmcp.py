"""Constraints as the Motion Model Context Protocol has them: the `constraints` array of a request.

Facts (motionmcp-sdk 0.13): y up, metres, quaternions xyzw, frames from 0. `root_path` has `frames`, `positions_xz` and
`heading_radians`; `effector_target` has `joint`, `frames` and `positions`; `pose_keyframe` has `frame`, rotations of
some joints relative to their parents, perhaps a `root_position`, and `fill_mode`: the other joints rest, or are free.
Joints are read by our names and plain ones; poses turn from the T-pose of our 22 joints. A turn of a hand about itself
is not in 22 positions, so rotations of effectors are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import roma
import torch

from motiongpt3.control.constraints import AnyConstraint, EffectorTarget, Keyframe, RootPath, joint_index, numbers
from motiongpt3.control.kimodo import posed
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import MAX_FRAMES
from motiongpt3.motion.skeleton import HUMANML3D

TYPES = ("root_path", "effector_target", "pose_keyframe", "ground_height")


def from_entry(entry: dict[str, Any], fps: float) -> list[AnyConstraint]:
    """The constraint of one entry of the array, whose frames are at `fps`.

    Raises:
        MotionGPT3Error: fields missing or of another shape, or ground that is not flat.
    """
    kind = entry["type"]
    if kind == "ground_height":
        raise MotionGPT3Error("ground_height cannot be held: people walk on a flat floor at height 0; leave it out")
    if kind == "pose_keyframe":
        return [_pose(entry, fps)]
    seconds = numbers(_field(entry, "frames"), f"frames of {kind}", (None,), MAX_FRAMES) / fps
    if kind == "effector_target":
        return [EffectorTarget(_field(entry, "joint"), _field(entry, "positions"), seconds)]
    return [RootPath(_field(entry, "positions_xz"), seconds, headings=entry.get("heading_radians"))]


def _field(entry: dict[str, Any], name: str) -> Any:
    if entry.get(name) is None:
        raise MotionGPT3Error(f"a {entry['type']} has no {name}")
    return entry[name]


def _pose(entry: dict[str, Any], fps: float) -> Keyframe:
    """A pose by forward kinematics: of all joints, or of those whose place the rotations decide."""
    frame = float(numbers(_field(entry, "frame"), "frame of pose_keyframe", (), MAX_FRAMES))
    given = _field(entry, "joint_rotations")
    if not isinstance(given, dict) or not given or len(given) > 1000:
        raise MotionGPT3Error("joint_rotations of a pose_keyframe must be an object of quaternions by joint")
    turns = torch.zeros(1, len(HUMANML3D), 3, dtype=torch.float64)
    for name, quaternion in given.items():
        values = numbers(quaternion, f"the rotation of {str(name)[:40]}", (4,))
        if np.linalg.norm(values) < 1e-6:
            raise MotionGPT3Error(f"the rotation of {str(name)[:40]} is no quaternion: all of it is 0")
        turns[0, joint_index(name)] = roma.unitquat_to_rotvec(torch.from_numpy(values / np.linalg.norm(values)))
    fill = entry.get("fill_mode", "rest")
    if fill not in ("rest", "generate"):
        raise MotionGPT3Error(f"fill_mode is rest or generate, not {str(fill)[:40]!r}")
    joints = None
    if fill == "generate":
        told = {joint_index(name) for name in given}
        known = [0]
        for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
            if parent in known and parent in told:
                known.append(joint)
        if len(known) == 1:
            raise MotionGPT3Error("a pose_keyframe with fill_mode generate needs the rotations from the pelvis on")
        joints = None if len(known) == len(HUMANML3D) else [HUMANML3D.names[joint] for joint in known]
    root = entry.get("root_position")
    place = np.array([0.0, 0.93, 0.0]) if root is None else numbers(root, "root_position", (3,))
    return Keyframe(posed(turns, place[None])[0], frame / fps, joints=joints, placed=root is not None)
