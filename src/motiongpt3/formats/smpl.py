"""SMPL poses as npz: AMASS's recordings are read; motions are written in their shape (.smpl.npz), no body model needed.

AMASS holds poses of a body model, which is needed to know where the joints are and whose licence does not let us ship
it. It is read from the file, or folder of {gender}/model.npz, that the environment variable MOTIONGPT3_SMPLH names:
SMPL-H as mano.is.tue.mpg.de offers it, a plain npz. Our own files hold the joints of their rest pose instead.

Own code instead of the packages smplx or human_body_prior: of the model only the rest joints are wanted, not its skin.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import Reading, ReadOptions
from motiongpt3.motion.kinematics import pose_joints
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.retarget import own_rest_pose, to_rig, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D, Float64
from motiongpt3.motion.upright import find_upright
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import Npz

VARIABLE = "MOTIONGPT3_SMPLH"
REST = "rest_joints"
"""Under this name our files have the (22, 3) joints of the rest pose."""
SMPL_JOINTS = 24
"""Those of SMPL: our 22 and the hands, which stay at rest."""
_BODY = len(HUMANML3D)
_Z_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""From our axes to AMASS's and back: (x, y, z) -> (-x, z, y), as HumanML3D's preparation reads it."""
_PELVIS = np.array([0.0, -0.22, 0.03])
"""Where SMPL's body has its pelvis at rest, to the centimetre; it turns about that and is moved by `trans`."""


def read(path: Path, options: ReadOptions) -> Reading:
    """Read an AMASS file as the 22 body joints, at the file's own frame rate (usually 120 or 100).

    Joints of the rest body (J_regressor times v_template, shaped by betas where the model has shapedirs) are posed
    by forward kinematics, turned from z up to y up as HumanML3D does, (x, y, z) -> (-x, z, y), and given its bone
    lengths. Files that `write` wrote hold the rest joints themselves and come back as they were.

    Raises:
        MotionGPT3Error: no body model, or arrays missing, of the wrong shape or not finite.
    """
    with Npz(path) as file:
        rate = next((key for key in ("mocap_framerate", "mocap_frame_rate", "fps") if key in file), None)
        if rate is None and options.fps is None:
            raise MotionGPT3Error(
                f"{path.name} has poses and trans but no mocap_framerate: it is no AMASS file; --fps-in says the rate"
            )
        poses = file.numbers("poses") if "poses" in file else _joined(file)
        trans = file.numbers("trans" if "trans" in file else "transl")
        fps = options.fps or file.number(rate or "")
        betas = file.numbers("betas").ravel() if "betas" in file else np.zeros(0)
        own = file.numbers(REST) if REST in file else None
        caption, gender = file.text("caption"), file.text("gender") or "neutral"
    frames = len(poses) if poses.ndim else 0
    if poses.ndim != 2 or poses.shape[1] < 3 * _BODY or trans.shape != (frames, 3) or not 1 <= frames <= MAX_FRAMES:
        raise MotionGPT3Error(
            f"{path.name}: poses {poses.shape} and trans {trans.shape} should be (frames, {3 * _BODY} or more) "
            "and (frames, 3)"
        )
    if own is not None and own.shape != (_BODY, 3):
        raise MotionGPT3Error(f"{path.name}: {REST} must have shape ({_BODY}, 3), not {own.shape}")
    rest = _rest_joints(_model(path, gender), betas) if own is None else own
    turns = roma.rotvec_to_rotmat(torch.from_numpy(poses[:, : 3 * _BODY].reshape(frames, _BODY, 3)))
    offsets = np.concatenate([rest[:1], rest[1:] - rest[list(HUMANML3D.parents[1:])]])
    posed = pose_joints(turns, torch.from_numpy(offsets), HUMANML3D.parents)[1].numpy() + trans[:, None]
    # Of ours z is up, and so it is of AMASS; poses that others save under the same names are found out.
    up = "z" if own is not None and options.up == "auto" else options.up
    stands = find_upright(posed, None, up, options.unit, None if own is None else "m", usual_up="z")
    joints = posed[..., [0, 2, 1]] * [-1, 1, 1] if stands.up == "z" else stands.turned(posed)
    motion = Motion(to_skeleton(joints) if own is None else joints, fps=fps, caption=caption, name=path.stem)
    told = () if stands.up == "z" else stands.notes
    return Reading(motion, told, stands.doubts, facts=stands.facts)


def _joined(file: Npz) -> Float64:
    """(T, 66) poses of a file that has the root's turn and the body's apart."""
    root = next((key for key in ("root_orient", "global_orient") if key in file), None)
    if root is None:
        raise MotionGPT3Error(f"{file.name} has the poses of the body but no root_orient")
    parts = [file.numbers(key) for key in (root, "pose_body" if "pose_body" in file else "body_pose")]
    if any(part.ndim < 2 for part in parts) or len(parts[0]) != len(parts[1]):
        raise MotionGPT3Error(f"{file.name}: the poses of root {parts[0].shape} and body {parts[1].shape} do not fit")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)[:, : 3 * _BODY]


def _model(path: Path, gender: str) -> Path:
    named = os.environ.get(VARIABLE)
    if not named:
        raise MotionGPT3Error(
            f"{path.name} is an AMASS file: it holds body-model poses, not joints; set {VARIABLE} to an SMPL-H "
            "model.npz (or a folder of GENDER/model.npz) to read it"
        )
    model = Path(named)
    if model.is_dir():
        gender = gender if gender in ("male", "female", "neutral") else "neutral"
        candidates = [model / gender / "model.npz", model / "neutral" / "model.npz", model / "model.npz"]
        model = next((file for file in candidates if file.is_file()), candidates[0])
    if not model.is_file():
        raise MotionGPT3Error(f"no body model at {model}, where {VARIABLE} points")
    return model


def _rest_joints(model: Path, betas: Float64) -> Float64:
    """(22, 3) joints of the body in its rest pose, checked to be the tree that our skeleton is."""
    with Npz(model) as file:
        regressor, vertices, tree = (file.numbers(key) for key in ("J_regressor", "v_template", "kintree_table"))
        if vertices.ndim != 2 or vertices.shape[1] != 3 or regressor.ndim != 2 or regressor.shape[1] != len(vertices):
            raise MotionGPT3Error(f"{model.name}: J_regressor {regressor.shape} and v_template {vertices.shape} differ")
        parents = tree[0, 1:_BODY].tolist() if tree.ndim == 2 else []
        if len(regressor) < _BODY or parents != list(HUMANML3D.parents[1:]):
            raise MotionGPT3Error(f"{model.name}: its first {_BODY} joints are not SMPL's")
        if "shapedirs" in file and betas.size:
            directions = file.numbers("shapedirs")
            if directions.shape[:2] != vertices.shape or directions.ndim != 3:
                raise MotionGPT3Error(f"{model.name}: shapedirs {directions.shape} does not fit its vertices")
            count = min(directions.shape[2], betas.size)
            vertices = vertices + directions[..., :count] @ betas[:count]
    rest: Float64 = regressor[:_BODY] @ vertices
    return rest


@dataclass(frozen=True)
class SmplPoses:
    """A motion as a SMPL-shaped body plays it.

    Attributes:
        poses: (T, 72) axis-angles in radians, 24 joints in SMPL's order; the first turns the body into z up.
        trans: (T, 3) metres, z up.
        rest: (22, 3) the joints of the body at rest, y up: a T-pose with the motion's bone lengths.
        error: metres, mean distance of the posed joints from the motion's.
    """

    poses: Float64
    trans: Float64
    rest: Float64
    error: float


def smpl_poses(motion: Motion) -> SmplPoses:
    """Poses whose forward kinematics come nearest to a motion's joints.

    A SMPL body is rigid at pelvis and chest, recordings are not, so a centimetre or two are lost. A bone's turn about
    itself is not in 22 joints: it takes the shortest way.
    """
    own = own_rest_pose(motion)
    played = to_rig(motion, own, same_body=True)
    local = torch.zeros(len(motion), SMPL_JOINTS, 3, dtype=torch.float64)
    for joint, parent in enumerate(HUMANML3D.parents):
        above = torch.from_numpy(_Z_UP) if parent < 0 else played.turns[:, parent].mT
        local[:, joint] = roma.rotmat_to_rotvec(above @ played.turns[:, joint])
    rest = own.places - own.places[0] + _PELVIS
    trans = played.joints[:, 0] @ _Z_UP.T - _PELVIS
    error = float(np.linalg.norm(played.joints - motion.joints, axis=-1).mean())
    return SmplPoses(local.reshape(len(motion), -1).numpy(), trans, rest, error)


def write(motion: Motion, path: Path) -> None:
    """Write `poses`, `trans`, `mocap_framerate`, `betas` (zero), `gender` and the rest joints for `read`.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, or the folder cannot be written.
    """
    require_humanml3d(motion, "SMPL")
    found = smpl_poses(motion)
    arrays = {
        "poses": found.poses.astype(np.float32),
        "trans": found.trans.astype(np.float32),
        "mocap_framerate": np.float64(motion.fps),
        "betas": np.zeros(10, dtype=np.float32),
        "gender": np.array("neutral"),
        REST: found.rest.astype(np.float32),
    }
    if motion.caption:
        arrays["caption"] = np.array(motion.caption)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
