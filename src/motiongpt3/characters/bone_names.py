"""Which bone of a character is which of our joints: by a user's map, by known names, or by a guess.

A map is {our joint: the bone's name}. Known names are in `bone_maps.yaml`. Where they do not fit, the words in the
names are read (thigh, calf, `_l`, `.R` ...); what is then still missing is told by where the joints lie.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.retarget import REQUIRED
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.untrusted import read_text

# Where the 22 joints lie on the skeletons that motion files use.
#
# A dialect places each of our joints at a weighted sum of the source's joints. Where a source has no such joint (a
# third spine joint, a collar) the weights put it where the recordings that our models are trained on have it.
# Units need no table: retargeting scales by the length of the legs.

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


MAX_MAP = 2**18
_WORDS = (
    ("foot", r"toe|ball"), ("ankle", r"foot|ankle"), ("knee", r"calf|shin|knee|lo(wer)? ?leg"),
    ("hip", r"thigh|up(per)? ?leg|^hip$"), ("wrist", r"hand|wrist"), ("elbow", r"fore ?arm|elbow|lo(wer)? ?arm"),
    ("shoulder", r"up(per)? ?arm|^arm$"), ("collar", r"clavicle|collar|^shoulder$"), ("knee", r"^leg$"),
)  # fmt: skip
"""What a limb's bone is called, the first that fits; without the side, in lower case, words apart."""
_EXTRA = re.compile(
    r"twist|roll|ik|pole|ctrl|control|end|tip|nub|helper|metacarpal|thumb|index|middle|ring|pinky|finger"
)


@dataclass(frozen=True)
class Bones:
    """Where our joints are in a rig.

    Attributes:
        nodes: {our joint: index of its node}.
        how: what told so, in words.
    """

    nodes: dict[str, int]
    how: str


def find(
    names: Sequence[str],
    parents: Sequence[int],
    places: NDArray[np.float64],
    bones: Sequence[int],
    given: dict[str, str] | None = None,
    labels: dict[str, int] | None = None,
) -> Bones:
    """Our joints among the bones of a rig.

    Args:
        names: of all nodes.
        parents: index of each node's parent, -1 for none.
        places: (N, 3) where the nodes are at rest, y up.
        bones: the nodes that bend the skin.
        given: a user's map; what it names is taken from it, the rest is looked for.
        labels: joints that the file itself names, {VRM's name: node}.

    Raises:
        MotionGPT3Error: a required joint is not found, the map names a bone that is not there, or a bone twice, or the
            bones do not hang together as in a body.
    """
    found, how = known(names, bones, labels or {})
    missing = [joint for joint in REQUIRED if joint not in found]
    if missing:
        guess = _guessed(names, parents, places, bones)
        if sum(joint not in guess for joint in REQUIRED) < len(missing):
            found, how = guess, "guessed"
    if given:
        named = _given(names, bones, given)
        found = {joint: node for joint, node in found.items() if node not in named.values()} | named
        how = f"the given map, and {how}"
    missing = [joint for joint in REQUIRED if joint not in found]
    if missing:
        raise MotionGPT3Error(
            f"no bone was found for {', '.join(missing)} among {', '.join(names[b] for b in bones[:12])[:160]} …: "
            "name them in a YAML file, such as 'l_hip: Thigh_L', and give it with --bones"
        )
    _check(found, names, parents)
    return Bones({joint: found[joint] for joint in HUMANML3D.names if joint in found}, how)


def known(names: Sequence[str], bones: Sequence[int], labels: dict[str, int]) -> tuple[dict[str, int], str]:
    """The joints under the names of the known map that finds most, and what that map is called."""
    best: tuple[dict[str, int], str] = ({}, "")
    spelled = {_same(names[bone]): bone for bone in reversed(bones)}
    labelled = {_same(label): node for label, node in labels.items()}
    for kind, joints in known_maps().items():
        for places in (spelled, labelled) if kind == "VRM" else (spelled,):
            found = {joint.rstrip("?"): places[_same(bone)] for joint, bone in joints.items() if _same(bone) in places}
            if len(found) > len(best[0]):
                best = found, kind
    return best


def load_map(path: Path) -> dict[str, str]:
    """A map {our joint: bone} from a YAML file of such lines.

    Raises:
        MotionGPT3Error: no such file, no map, or a joint that is none of ours.
    """
    try:
        loaded = yaml.safe_load(read_text(path, MAX_MAP))
    except (yaml.YAMLError, RecursionError) as error:
        raise MotionGPT3Error(f"{path.name} is no YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, (str, int)) for value in loaded.values()):
        raise MotionGPT3Error(f"{path.name} is no map of bones: it needs lines such as 'l_hip: Thigh_L'")
    for joint in loaded:
        if joint not in HUMANML3D.names:
            raise MotionGPT3Error(f"{path.name} names {str(joint)[:40]!r}; joints are {', '.join(HUMANML3D.names)}")
    return {joint: str(bone) for joint, bone in loaded.items()}


def known_maps() -> dict[str, dict[str, str]]:
    """{kind of rig: {our joint: bone's name}}, both sides; a joint that may be missing ends in "?"."""
    text = resources.files("motiongpt3.characters").joinpath("bone_maps.yaml").read_text("utf-8")
    return {kind: joints | _other_side(joints) for kind, joints in yaml.safe_load(text).items()}


def _other_side(joints: dict[str, str]) -> dict[str, str]:
    """The right side of a map that has the left one."""
    swap = {"left": "right", "Left": "Right", "L": "R", "l": "r"}
    side = re.compile(r"left|Left|(?<![A-Za-z])[Ll](?![A-Za-z])")
    return {
        "r_" + joint[2:]: side.sub(lambda word: swap[word[0]], bone)
        for joint, bone in joints.items()
        if joint.startswith("l_")
    }


def _same(name: str) -> str:
    """A name without what does not count: prefix, case, spaces, dots, dashes and underscores."""
    return re.sub(r"[\s._-]", "", plain(name)).lower()


def _given(names: Sequence[str], bones: Sequence[int], given: dict[str, str]) -> dict[str, int]:
    exact = {names[bone]: bone for bone in reversed(bones)}
    found = {}
    for joint, name in given.items():
        if name not in exact:
            raise MotionGPT3Error(f"the rig has no bone {name[:60]!r}, which the map names for {joint}")
        found[joint] = exact[name]
    return found


def _check(found: dict[str, int], names: Sequence[str], parents: Sequence[int]) -> None:
    """Each bone serves one joint, and hangs from the joint above it in our skeleton."""
    taken: dict[int, str] = {}
    for joint, node in found.items():
        if node in taken:
            raise MotionGPT3Error(f"the bone {names[node][:60]!r} is taken for both {taken[node]} and {joint}")
        taken[node] = joint
    for joint, node in found.items():
        above = parents[node]
        while above >= 0 and above not in taken:
            above = parents[above]
        wanted = HUMANML3D.parents[HUMANML3D.index(joint)]
        while wanted >= 0 and HUMANML3D.names[wanted] not in found:
            wanted = HUMANML3D.parents[wanted]
        if (taken[above] if above >= 0 else None) != (HUMANML3D.names[wanted] if wanted >= 0 else None):
            raise MotionGPT3Error(
                f"the bone {names[node][:60]!r} for {joint} does not hang from the one for "
                f"{HUMANML3D.names[wanted] if wanted >= 0 else 'nothing'}: name the bones in a YAML file (--bones)"
            )


def _guessed(
    names: Sequence[str], parents: Sequence[int], places: NDArray[np.float64], bones: Sequence[int]
) -> dict[str, int]:
    """Joints by the words in the names, the others by where they lie."""
    found: dict[str, int] = {}
    middle = float(np.median([places[bone][0] for bone in bones]))
    for bone in sorted(bones, key=lambda b: _depth(b, parents)):
        side, words = _words(names[bone])
        if _EXTRA.search(words) or not side:
            continue
        joint = next((joint for joint, pattern in _WORDS if re.search(pattern, words)), None)
        if joint:
            found.setdefault(side + joint, bone)
    by_place = _by_place(parents, places, bones, middle)
    sides = [[joint for joint in by_place if joint.startswith(side)] for side in ("l_", "r_")]
    limbs = [*sides[0], *sides[1]]
    if not all(joint in found for joint in REQUIRED if joint[:2] in ("l_", "r_")):
        found = {joint: by_place[joint] for joint in limbs}
    trunk = _trunk(found, parents, places, bones)
    return found | {joint: node for joint, node in trunk.items() if node not in found.values()}


def _words(name: str) -> tuple[str, str]:
    """The side ("l_", "r_" or "") and the other words of a name, in lower case: UpperArm.L -> ("l_", "upper arm")."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s._\-:|]+|(?<=[A-Za-z])(?=\d)", " ", plain(name)).lower().split()
    side = ""
    rest = []
    for word in apart:
        mark = re.fullmatch(r"(l|left)|(r|right)", word)
        if mark and not side:
            side = "l_" if mark[1] else "r_"
        elif not word.isdigit() and word not in ("bip", "def", "bone", "jnt", "joint", "j", "c", "m", "avg", "b"):
            rest.append(word)
    return side, " ".join(rest)


def _depth(node: int, parents: Sequence[int]) -> int:
    return len(_path(node, parents))


def _path(node: int, parents: Sequence[int]) -> list[int]:
    """The nodes from the topmost one down to this."""
    path = [node]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


def _common(one: int, other: int, parents: Sequence[int]) -> int:
    """The lowest node above both; -1 if there is none."""
    shared = [a for a, b in zip(_path(one, parents), _path(other, parents), strict=False) if a == b]
    return shared[-1] if shared else -1


def _by_place(
    parents: Sequence[int], places: NDArray[np.float64], bones: Sequence[int], middle: float
) -> dict[str, int]:
    """Arms and legs of a figure that stands in a T or A facing +z or -z: the lowest tips, and those farthest aside."""
    inner = {parents[bone] for bone in bones}
    tips = [bone for bone in bones if bone not in inner]
    height = float(np.ptp([places[bone][1] for bone in bones])) or 1.0
    low = min(places[bone][1] for bone in bones)
    facing = _facing(parents, places, bones, low, height)
    found: dict[str, int] = {}
    for side, sign in (("l_", facing), ("r_", -facing)):
        own = [tip for tip in tips if sign * (places[tip][0] - middle) > 0.01 * height]
        if not own:
            continue
        toe = min(own, key=lambda tip: places[tip][1])
        hand = max(own, key=lambda tip: sign * places[tip][0])
        legs, arms = _path(toe, parents), _path(hand, parents)
        leg = [node for node in legs if node in bones and sign * (places[node][0] - middle) > 0.005 * height]
        arm = [node for node in arms if node in bones and sign * (places[node][0] - middle) > 0.005 * height]
        if len(leg) >= 3 and places[toe][1] < low + 0.15 * height:
            found |= {side + name: node for name, node in zip(("hip", "knee", "ankle", "foot"), leg, strict=False)}
        joints = _arm(arm, places)
        found |= {side + name: node for name, node in joints.items()}
    return found


def _arm(arm: list[int], places: NDArray[np.float64]) -> dict[str, int]:
    """Collar, shoulder, elbow and wrist on the way to a hand: upper and lower arm are its longest bones, one another's
    neighbours."""
    lengths = [float(np.linalg.norm(places[b] - places[a])) for a, b in pairwise(arm)]
    if len(lengths) < 2:
        return {}
    at = max(range(len(lengths) - 1), key=lambda i: min(lengths[i], lengths[i + 1]))
    found = {"shoulder": arm[at], "elbow": arm[at + 1], "wrist": arm[at + 2]}
    return {"collar": arm[at - 1], **found} if at else found


def _facing(
    parents: Sequence[int], places: NDArray[np.float64], bones: Sequence[int], low: float, height: float
) -> float:
    """1 where the figure looks to +z, -1 where it looks to -z: the way that the lowest bones point."""
    feet = [bone for bone in bones if places[bone][1] < low + 0.12 * height and parents[bone] in bones]
    ahead = sum(float(places[bone][2] - places[parents[bone]][2]) for bone in feet)
    return -1.0 if ahead < -0.01 * height else 1.0


def _trunk(
    limbs: dict[str, int], parents: Sequence[int], places: NDArray[np.float64], bones: Sequence[int]
) -> dict[str, int]:
    """Pelvis, spine, neck and head between arms and legs that are known."""
    if not all(joint in limbs for joint in ("l_hip", "r_hip", "l_shoulder", "r_shoulder")):
        return {}
    pelvis = _common(limbs["l_hip"], limbs["r_hip"], parents)
    arms = [limbs.get(f"{side}collar", limbs[f"{side}shoulder"]) for side in ("l_", "r_")]
    chest = _common(arms[0], arms[1], parents)
    if pelvis not in bones or chest not in bones or pelvis not in _path(chest, parents):
        return {}
    path = _path(chest, parents)
    spine = _apart([node for node in path[path.index(pelvis) :] if node in bones], places)[1:]
    if len(spine) > 3:
        spine = [spine[0], spine[len(spine) // 2], spine[-1]]
    found = {"pelvis": pelvis, **dict(zip(("spine1", "spine2", "spine3"), spine, strict=False))}
    if len(spine) == 2:
        found = {"pelvis": pelvis, "spine1": spine[0], "spine3": spine[1]}
    used = set(limbs.values())
    above = [b for b in bones if chest in _path(b, parents)[:-1] and not used & set(_path(b, parents))]
    if above:
        top = max(above, key=lambda b: places[b][1])
        rise = _apart([chest, *(node for node in _path(top, parents) if node in above)], places)[1:]
        if len(rise) < 2:
            found["head"] = rise[-1] if rise else top
        else:
            found |= {"neck": rise[0], "head": rise[1]}
    return found


def _apart(path: list[int], places: NDArray[np.float64]) -> list[int]:
    """A path without the nodes that lie where the one before does: they only turn."""
    size = float(np.ptp(places[:, 1])) or 1.0
    kept = path[:1]
    for node in path[1:]:
        if np.linalg.norm(places[node] - places[kept[-1]]) > 0.005 * size:
            kept.append(node)
    return kept
