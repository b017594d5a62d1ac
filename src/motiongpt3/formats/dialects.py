"""Where the 22 joints lie on the skeletons that motion files use.

A dialect places each of our joints at a weighted sum of the source's joints. Where a source has no such joint (a
third spine joint, a collar) the weights put it where the recordings that our models are trained on have it.
Units need no table: retargeting scales by the length of the legs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.skeleton import HUMANML3D

Mix = dict[str, float]
_PREFIX = re.compile(r"^.*:|^mixamorig\d*_?")

OWN_NAMES = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
    "l_hip": "LeftUpLeg", "l_knee": "LeftLeg", "l_ankle": "LeftFoot", "l_foot": "LeftToeBase",
    "r_hip": "RightUpLeg", "r_knee": "RightLeg", "r_ankle": "RightFoot", "r_foot": "RightToeBase",
    "l_collar": "LeftShoulder", "l_shoulder": "LeftArm", "l_elbow": "LeftForeArm", "l_wrist": "LeftHand",
    "r_collar": "RightShoulder", "r_shoulder": "RightArm", "r_elbow": "RightForeArm", "r_wrist": "RightHand",
}  # fmt: skip
"""The names our BVH files give to the 22 joints: Mixamo's."""

OWN_HELPERS = {
    "l_hip": "LHipJoint", "r_hip": "RHipJoint", "spine1": "LowerBack",
    "neck": "LowerNeck", "l_collar": "LCollarJoint", "r_collar": "RCollarJoint",
}  # fmt: skip
"""Joints without length that turn one bone each where several bones start at one joint, as CMU's conversions have."""


@dataclass(frozen=True)
class Dialect:
    """How one kind of file names and places joints.

    Attributes:
        name: what it is called in messages.
        joints: for each of our joints, {source joint: weight}; the weights add up to 1.
        requires: further joints that tell it from other dialects.
        t_pose_first: whether a T-pose may stand before the recording.
    """

    name: str
    joints: dict[str, Mix]
    requires: tuple[str, ...] = ()
    t_pose_first: bool = False

    def sources(self, names: list[str]) -> list[str]:
        """The file's own spelling of the joints that `assemble` takes, in its order."""
        spelling = {plain(name): name for name in reversed(names)}
        return [spelling[source] for source in self._order()]

    def assemble(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (T, len(sources), 3) of the source joints -> (T, 22, 3) of ours, in the same unit."""
        order = {name: i for i, name in enumerate(self._order())}
        weights = np.zeros((len(HUMANML3D), len(order)))
        for i, joint in enumerate(HUMANML3D.names):
            for source, weight in self.joints[joint].items():
                weights[i, order[source]] = weight
        return np.einsum("js,tsk->tjk", weights, positions)

    def fits(self, names: set[str]) -> bool:
        """Whether a file with these (plain) joint names is of this dialect."""
        return names.issuperset(self._order()) and names.issuperset(self.requires)

    def _order(self) -> list[str]:
        return sorted({source for mix in self.joints.values() for source in mix})


def plain(name: str) -> str:
    """A joint's name without the prefix some programs put before it: mixamorig:Hips -> Hips."""
    return _PREFIX.sub("", name)


def match(names: list[str], file: str) -> Dialect:
    """The dialect of a file with these joints; MotionGPT3Error says which dialects are known."""
    present = {plain(name) for name in names}
    for dialect in DIALECTS:
        if dialect.fits(present):
            return dialect
    known = ", ".join(dict.fromkeys(dialect.name for dialect in DIALECTS))
    shown = ", ".join(name for name in names[:8] if not name.endswith(END))[:120]
    raise MotionGPT3Error(f"{file}: joints named {shown} … are of no known skeleton; known are {known}")


END = " end"
"""Added to a joint's name to call the end site below it."""


def _mixed(**joints: str | Mix) -> dict[str, Mix]:
    """{our joint: source or mix} with every source made a mix."""
    return {joint: {source: 1.0} if isinstance(source, str) else source for joint, source in joints.items()}


def _sides(left: tuple[str, ...], right: tuple[str, ...], joints: dict[str, str | Mix]) -> dict[str, Mix]:
    """Both sides of {our joint without l_ or r_: source or mix}; {0}, {1} … in a source become the side's words."""
    filled: dict[str, Mix] = {}
    for prefix, words in (("l_", left), ("r_", right)):
        for joint, source in joints.items():
            mix = {source: 1.0} if isinstance(source, str) else source
            filled[prefix + joint] = {name.format(*words): weight for name, weight in mix.items()}
    return filled


_OWN = _mixed(**OWN_NAMES)
_LAFAN = _OWN | _mixed(l_foot="LeftToe", r_foot="RightToe")

# The conversion lost the thorax, so neck and shoulders hang from the top of the upper back. A thorax as long as the
# bone below it is put back: everything above moves up by Spine1 - Spine.
_LIFT: Mix = {"Spine1": 1.0, "Spine": -1.0}
_CGSPEED = _mixed(
    pelvis="Hips", spine1="Spine", spine2="Spine1", spine3={"Spine1": 1.4, "Spine": -0.4},
    neck={"Neck1": 1.0} | _LIFT, head={"Head": 1.0} | _LIFT,
) | _sides(("Left",), ("Right",), {
    "hip": "{0}UpLeg", "knee": "{0}Leg", "ankle": "{0}Foot", "foot": "{0}ToeBase",
    "collar": {"Spine1": 1.7, "Spine": -1.0, "{0}Arm": 0.3}, "shoulder": {"{0}Arm": 1.0} | _LIFT,
    "elbow": {"{0}ForeArm": 1.0} | _LIFT, "wrist": {"{0}Hand": 1.0} | _LIFT,
})  # fmt: skip

# Daz skeletons are rooted in the crotch, below the hip joints.
_DAZ = _mixed(
    pelvis={"lThigh": 0.375, "rThigh": 0.375, "abdomen": 0.25}, spine1="abdomen", spine2="chest",
    spine3={"chest": 0.85, "neck": 0.15}, neck="neck", head="head",
) | _sides(("l",), ("r",), {
    "hip": "{0}Thigh", "knee": "{0}Shin", "ankle": "{0}Foot", "foot": "{0}Foot" + END,
    "collar": {"{0}Collar": 0.5, "{0}Shldr": 0.5}, "shoulder": "{0}Shldr",
    "elbow": "{0}ForeArm", "wrist": "{0}Hand",
})  # fmt: skip

_BANDAI = _mixed(
    pelvis="Hips", spine1="Spine", spine2={"Chest": 1.0734, "Neck": -0.0734},
    spine3={"Chest": 0.75, "Neck": 0.25}, neck="Neck", head="Head",
) | _sides(("_L",), ("_R",), {
    "hip": "UpperLeg{0}", "knee": "LowerLeg{0}", "ankle": "Foot{0}", "foot": "Toes{0}",
    "collar": "Shoulder{0}", "shoulder": "UpperArm{0}", "elbow": "LowerArm{0}", "wrist": "Hand{0}",
})  # fmt: skip

_ACCLAIM = _mixed(
    pelvis="root", spine1="lowerback", spine2="upperback", spine3={"upperback": 0.6, "thorax": 0.4},
    neck="lowerneck", head="upperneck",
) | _sides(("l",), ("r",), {
    "hip": "{0}hipjoint", "knee": "{0}femur", "ankle": "{0}tibia", "foot": "{0}foot",
    "collar": {"thorax": 0.7, "{0}clavicle": 0.3}, "shoulder": "{0}clavicle",
    "elbow": "{0}humerus", "wrist": "{0}radius",
})  # fmt: skip

OWN = Dialect("motiongpt3", _OWN, requires=tuple(OWN_HELPERS.values()))
DIALECTS = (
    OWN,
    Dialect("CMU (cgspeed)", _CGSPEED, requires=("LowerBack", "Neck1"), t_pose_first=True),
    Dialect("CMU (daz)", _DAZ),
    Dialect("Bandai-Namco", _BANDAI),
    Dialect("Mixamo", _OWN),
    Dialect("LAFAN1", _LAFAN),
    Dialect("CMU (Acclaim)", _ACCLAIM),
)
