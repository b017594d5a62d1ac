"""SMPL-shaped npz files (.smpl.npz): axis-angle poses as in AMASS, by inverse kinematics; no body model is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.files import atomic_path
from motiongpt3.formats.amass import REST
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.retarget import onto, own_rest
from motiongpt3.motion.skeleton import HUMANML3D

JOINTS = 24
"""Those of SMPL: our 22 and the hands, which stay at rest."""
_Z_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""From our axes to AMASS's: (x, y, z) -> (-x, z, y), as HumanML3D reads it."""
_PELVIS = np.array([0.0, -0.22, 0.03])
"""Where SMPL's body has its pelvis at rest, to the centimetre; it turns about that and is moved by `trans`."""


@dataclass(frozen=True)
class SmplPoses:
    """A motion as a SMPL-shaped body plays it.

    Attributes:
        poses: (T, 72) axis-angles in radians, 24 joints in SMPL's order; the first turns the body into z up.
        trans: (T, 3) metres, z up.
        rest: (22, 3) the joints of the body at rest, y up: a T-pose with the motion's bone lengths.
        error: metres, mean distance of the posed joints from the motion's.
    """

    poses: NDArray[np.float64]
    trans: NDArray[np.float64]
    rest: NDArray[np.float64]
    error: float


def solve(motion: Motion) -> SmplPoses:
    """Poses whose forward kinematics come nearest to a motion's joints.

    A SMPL body is rigid at pelvis and chest, recordings are not, so a centimetre or two are lost. A bone's turn about
    itself is not in 22 joints: it takes the shortest way.
    """
    own = own_rest(motion)
    played = onto(motion, own, same_body=True)
    turns = played.turns.clone()
    local = torch.zeros(len(motion), JOINTS, 3, dtype=torch.float64)
    for joint, parent in enumerate(HUMANML3D.parents):
        below = torch.from_numpy(_Z_UP) @ turns[:, 0] if parent < 0 else turns[:, parent].mT @ turns[:, joint]
        local[:, joint] = roma.rotmat_to_rotvec(below)
    rest = own.places - own.places[0] + _PELVIS
    trans = played.joints[:, 0] @ _Z_UP.T - _PELVIS
    error = float(np.linalg.norm(played.joints - motion.joints, axis=-1).mean())
    return SmplPoses(local.reshape(len(motion), -1).numpy(), trans, rest, error)


def write(motion: Motion, path: Path) -> None:
    """Write `poses`, `trans`, `mocap_framerate`, `betas` (zero), `gender` and the rest joints for `load`.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, or the folder cannot be written.
    """
    require_humanml3d(motion, "SMPL")
    found = solve(motion)
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
