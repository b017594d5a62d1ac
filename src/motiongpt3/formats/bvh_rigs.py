"""The hierarchies in which BVH files are written: ours, Mixamo's and that of CMU's conversions (cgspeed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats.bones import known_maps
from motiongpt3.formats.rig import NODES
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import Rest, onto, own_rest
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.motion.tpose import Fitted, fit

BvhDialect = Literal["ours", "mixamo", "cmu"]
_TIPS = {"head": 0.12, "l_foot": 0.06, "r_foot": 0.06, "l_wrist": 0.08, "r_wrist": 0.08}
_CMU = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "neck": "Neck1", "head": "Head",
    "l_hip": "LeftUpLeg", "l_knee": "LeftLeg", "l_ankle": "LeftFoot", "l_foot": "LeftToeBase",
    "r_hip": "RightUpLeg", "r_knee": "RightLeg", "r_ankle": "RightFoot", "r_foot": "RightToeBase",
    "l_shoulder": "LeftArm", "l_elbow": "LeftForeArm", "l_wrist": "LeftHand",
    "r_shoulder": "RightArm", "r_elbow": "RightForeArm", "r_wrist": "RightHand",
}  # fmt: skip
_CMU_HELPERS = {
    "l_hip": "LHipJoint", "r_hip": "RHipJoint", "spine1": "LowerBack", "neck": "Neck", "l_shoulder": "LeftShoulder",
    "r_shoulder": "RightShoulder",
}  # fmt: skip
"""Joints without length that those files have above these."""


@dataclass(frozen=True)
class BvhJoint:
    """A joint of the written hierarchy; parents come first.

    Attributes:
        name: as in the file.
        parent: index of the joint above, -1 for the root.
        offset: (3,) from the parent in metres.
        tip: (3,) from the joint to its end site in metres; None where joints hang from it.
    """

    name: str
    parent: int
    offset: NDArray[np.float64]
    tip: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class BvhFigure:
    """What a BVH file says: its joints, (T, 3) where the root is in metres, (T, N, 3, 3) how each joint turns."""

    joints: list[BvhJoint]
    root: NDArray[np.float64]
    rotations: torch.Tensor


def figure(motion: Motion, dialect: BvhDialect) -> BvhFigure:
    """A motion as the joints of a dialect.

    "ours" reaches every position: where several bones start at one joint, joints without length turn each on its own.
    "mixamo" and "cmu" are rigs of these programs' kind with the motion's bone lengths, on which it is put as on any
    character (`motion.retarget`): hips, chest and shoulders are rigid there.

    Raises:
        MotionGPT3Error: there is no such dialect.
    """
    fitted = fit(motion)
    if dialect == "ours":
        return _ours(fitted)
    if dialect not in get_args(BvhDialect):
        raise MotionGPT3Error(f"BVH dialects are {', '.join(get_args(BvhDialect))}, not {dialect!r}")
    places = own_rest(motion).places
    names, helpers = _CMU, _CMU_HELPERS
    if dialect == "mixamo":
        names = {joint.rstrip("?"): f"mixamorig:{bone}" for joint, bone in known_maps()["Mixamo"].items()}
        helpers = {}
    else:
        places = _without_thorax(places)
    return _rigid(motion, places, names, helpers, fitted)


def _ours(fitted: Fitted) -> BvhFigure:
    tips = _tips(fitted)
    joints = [
        BvhJoint(
            node.name,
            node.parent,
            np.zeros(3) if node.is_helper or node.parent < 0 else fitted.rest[node.joint],
            None if node.is_helper else tips.get(HUMANML3D.names[node.joint]),
        )
        for node in NODES
    ]
    rotations = torch.eye(3, dtype=torch.float64).expand(len(fitted.root), len(NODES), 3, 3).clone()
    for i, node in enumerate(NODES):
        if node.turns >= 0:
            rotations[:, i] = fitted.rotations[:, node.turns]
    return BvhFigure(joints, fitted.root, rotations)


def _rigid(
    motion: Motion, places: NDArray[np.float64], names: dict[str, str], helpers: dict[str, str], fitted: Fitted
) -> BvhFigure:
    """A rig with a T-pose in which each joint is one of ours, or a helper that lies where its parent does."""
    played = onto(motion, Rest(places, 0.0), same_body=True)
    tips = _tips(fitted)
    joints: list[BvhJoint] = []
    turns: list[torch.Tensor] = []
    at: dict[str, int] = {}
    still = torch.eye(3, dtype=torch.float64).expand(len(motion), 3, 3)
    for joint in _depth_first(names):
        above = _above(joint, names)
        parent = at[above] if above else -1
        world = played.turns[:, HUMANML3D.index(joint)]
        before = played.turns[:, HUMANML3D.index(above)] if above else still
        if joint in helpers:
            joints.append(BvhJoint(helpers[joint], parent, np.zeros(3)))
            turns.append(still)
            parent = len(joints) - 1
        offset = places[HUMANML3D.index(joint)] - (places[HUMANML3D.index(above)] if above else places[0])
        at[joint] = len(joints)
        joints.append(BvhJoint(names[joint], parent, offset, tips.get(joint)))
        turns.append(before.transpose(-1, -2) @ world)
    return BvhFigure(joints, played.joints[:, 0], torch.stack(turns, dim=1))


def _without_thorax(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """CMU's conversions lost the thorax: all above the upper back hangs lower by as much as one bone of the spine."""
    spine1, spine2 = HUMANML3D.index("spine1"), HUMANML3D.index("spine2")
    lower = [HUMANML3D.index(name) for name in _CMU if name.endswith(("neck", "head", "shoulder", "elbow", "wrist"))]
    found = places.copy()
    found[lower] -= places[spine2] - places[spine1]
    for name in ("spine3", "l_collar", "r_collar"):
        found[HUMANML3D.index(name)] = np.nan
    return found


def _tips(fitted: Fitted) -> dict[str, NDArray[np.float64]]:
    return {name: fitted.directions[HUMANML3D.index(name)] * size for name, size in _TIPS.items()}


def _depth_first(names: dict[str, str]) -> list[str]:
    """The joints in the order in which a file nests them."""

    def below(joint: str | None) -> list[str]:
        own = [name for name in HUMANML3D.names if name in names and _above(name, names) == joint]
        return [each for name in own for each in (name, *below(name))]

    return below(None)


def _above(joint: str, names: dict[str, str]) -> str | None:
    """The nearest joint above one that the hierarchy has."""
    at = HUMANML3D.parents[HUMANML3D.index(joint)]
    while at >= 0 and HUMANML3D.names[at] not in names:
        at = HUMANML3D.parents[at]
    return HUMANML3D.names[at] if at >= 0 else None
