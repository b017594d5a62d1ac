"""Which bone of a foreign skeleton is which of our joints: the one place that knows.

Names of known skeletons are in `bone_maps.yaml`. Recordings (BVH, ASF) of a known kind are read by the first `Dialect`
whose joints they all have (`match`), which knows where that kind puts them. The bones of all others, and those of
characters (GLB, VRM), are found (`find`) by a user's map, by known names, or by a guess: the words in the names are
read (thigh, calf, `_l`, `.R` ...), and what is then still missing is told by where the joints lie. Joints that a
skeleton lacks are placed between or beyond those that it has (`complete`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.retarget import REQUIRED
from motiongpt3.motion.skeleton import HUMANML3D, Float64, nearest_above
from motiongpt3.untrusted import load_yaml, read_text

END = " end"
"""Added to a joint's name to call the end site below it."""
BY_PLACE = "guessed from where the joints lie"
"""What told which bone is which, where names say nothing."""


def _both_sides(table: dict[str, Any]) -> dict[str, Any]:
    """{our joint: bone} of a table in `bone_maps.yaml`, which has one line for the left joint and the right one."""
    found = {joint: bone for joint, bone in table.items() if joint in HUMANML3D.names}
    for side, word in (("l_", r"\1"), ("r_", r"\2")):
        sided = {side + joint: bone for joint, bone in table.items() if side + joint in HUMANML3D.names}
        found |= {joint: _one_side(bone, word) for joint, bone in sided.items()}
    return found


def _one_side(bone: Any, word: str) -> Any:
    if isinstance(bone, dict):
        return {_one_side(name, word): weight for name, weight in bone.items()}
    return re.sub(r"<(.*?)\|(.*?)>", word, bone)


def shipped_table(name: str) -> dict[str, Any]:
    """A YAML file beside this one; libyaml, which most wheels of PyYAML have, reads it ten times as fast."""
    text = resources.files("motiongpt3.characters").joinpath(name).read_text("utf-8")
    table: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return table


_TABLES = shipped_table("bone_maps.yaml")
KNOWN_RIGS: dict[str, dict[str, str]] = {kind: _both_sides(table) for kind, table in _TABLES["characters"].items()}
"""{kind of rig: {our joint: bone's name}}."""
OWN_NAMES = KNOWN_RIGS["Mixamo"]
"""The names our BVH and GLB files give to the 22 joints."""
OWN_HELPERS = {
    "l_hip": "LHipJoint", "r_hip": "RHipJoint", "spine1": "LowerBack",
    "neck": "LowerNeck", "l_collar": "LCollarJoint", "r_collar": "RCollarJoint",
}  # fmt: skip
"""Joints without length that turn one bone each where several bones start at one joint, as CMU's conversions have."""


@dataclass(frozen=True)
class Dialect:
    """How one kind of recording names and places joints. Units need no table: retargeting scales by the legs' length.

    Attributes:
        name: what it is called in messages.
        joints: for each of our joints, {source joint: weight}; the weights add up to 1.
        requires: further joints that tell it from other dialects.
        t_pose_first: whether a T-pose may stand before the recording.
    """

    name: str
    joints: dict[str, dict[str, float]]
    requires: Sequence[str] = ()
    t_pose_first: bool = False

    def fits(self, names: set[str]) -> bool:
        """Whether a file with these (plain) joint names is of this dialect."""
        return names.issuperset(self.sources()) and names.issuperset(self.requires)

    def sources(self) -> list[str]:
        """The plain names of the joints that ours follow from."""
        return sorted({source for mix in self.joints.values() for source in mix})

    def weights(self) -> Float64:
        """(22, sources) what each of these counts for each of ours."""
        sources = self.sources()
        return np.array([[self.joints[joint].get(source, 0.0) for source in sources] for joint in HUMANML3D.names])


def _dialect(name: str, joints: dict[str, Any], **more: Any) -> Dialect:
    mixes = {joint: {bone: 1.0} if isinstance(bone, str) else bone for joint, bone in joints.items()}
    return Dialect(name, mixes, **more)


OWN = _dialect("motiongpt3", OWN_NAMES, requires=tuple(OWN_HELPERS.values()))
_OTHERS = {kind: table | {"joints": _both_sides(table["joints"])} for kind, table in _TABLES["recordings"].items()}
DIALECTS = (OWN, *(_dialect(kind, **table) for kind, table in _OTHERS.items()))


def plain(name: str) -> str:
    """A joint's name without the prefix some programs put before it: mixamorig:Hips -> Hips."""
    return re.sub(r"^.*[:|]|^mixamorig\d*_?|^Character\d*_", "", name)


def match(names: Sequence[str]) -> Dialect | None:
    """The dialect of a recording with these joints, or None if it is of no known one."""
    present = {plain(name) for name in names}
    return next((dialect for dialect in DIALECTS if dialect.fits(present)), None)


@dataclass(frozen=True)
class RestingRig:
    """A character's nodes in its rest pose.

    Attributes:
        names: of all nodes.
        parents: index of each node's parent, -1 for none.
        places: (N, 3) where the nodes are, y up.
        bones: the nodes that bend the skin.
    """

    names: Sequence[str]
    parents: Sequence[int]
    places: Float64
    bones: Sequence[int]

    def below(self, node: int) -> list[int]:
        """The nodes that hang from this, directly or not."""
        children: dict[int, list[int]] = {}
        for child, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(child)
        found = list(children.get(node, ()))
        for one in found:  # grows as it is walked
            found += children.get(one, ())
        return sorted(found)

    def path(self, node: int) -> list[int]:
        """The nodes from the topmost one down to this."""
        path = [node]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path[::-1]


@dataclass(frozen=True)
class FoundBones:
    """Where our joints are in a rig.

    Attributes:
        nodes: {our joint: index of its node}.
        how: what told so, in words.
    """

    nodes: dict[str, int]
    how: str


def find(rig: RestingRig, given: Mapping[str, str] | None = None, labels: dict[str, int] | None = None) -> FoundBones:
    """Our joints among the bones of a rig.

    Args:
        rig: the character.
        given: a user's map; what it names is taken from it, the rest is looked for.
        labels: joints that the file itself names, {VRM's name: node}.

    Raises:
        MotionGPT3Error: a required joint is not found, the map names a bone that is not there, or a bone twice, or the
            bones do not hang together as in a body.
    """
    found, how = known(rig.names, rig.bones, labels or {})
    missing = [joint for joint in REQUIRED if joint not in found]
    if missing:
        guess, told = _guessed(rig)
        if sum(joint not in guess for joint in REQUIRED) < len(missing):
            found, how = guess, told
    if given:
        exact = {rig.names[bone]: bone for bone in reversed(rig.bones)}
        for joint, name in given.items():
            if name not in exact:
                raise MotionGPT3Error(f"the rig has no bone {name[:60]!r}, which the map names for {joint}")
        named = {joint: exact[name] for joint, name in given.items()}
        found = {joint: node for joint, node in found.items() if node not in named.values()} | named
        how = f"the given map, and {how}"
    missing = [joint for joint in REQUIRED if joint not in found]
    if missing:
        raise MotionGPT3Error(
            f"no bone was found for {', '.join(missing)} among "
            f"{', '.join(rig.names[b] for b in rig.bones[:12])[:160]} …: "
            "name them in a YAML file, such as 'l_hip: Thigh_L', and give it with --bones"
        )
    _check(found, rig)
    return FoundBones({joint: found[joint] for joint in HUMANML3D.names if joint in found}, how)


def known(names: Sequence[str], bones: Sequence[int], labels: dict[str, int]) -> tuple[dict[str, int], str]:
    """The joints under the names of the known map that finds most, and what that map is called."""
    best: tuple[dict[str, int], str] = ({}, "")
    spelled = {_same(names[bone]): bone for bone in reversed(bones)}
    labelled = {_same(label): node for label, node in labels.items()}
    for kind, joints in KNOWN_RIGS.items():
        for nodes in (spelled, labelled) if kind == "VRM" else (spelled,):
            found = {joint: nodes[_same(bone)] for joint, bone in joints.items() if _same(bone) in nodes}
            if len(found) > len(best[0]):
                best = found, kind
    return best


def _same(name: str) -> str:
    """A name without what does not count: prefix, case, spaces, dots, dashes and underscores."""
    return re.sub(r"[\s._-]", "", plain(name)).lower()


MAX_MAP = 2**18
"""Bytes of a user's map: a quarter of a megabyte; 22 lines have one kilobyte."""


def load_map(path: Path) -> dict[str, str]:
    """A map {our joint: bone} from a YAML file of such lines.

    Raises:
        MotionGPT3Error: no such file, no map, or a joint that is none of ours.
    """
    loaded = load_yaml(read_text(path, MAX_MAP), path.name)
    if not isinstance(loaded, dict) or not all(isinstance(value, (str, int)) for value in loaded.values()):
        raise MotionGPT3Error(f"{path.name} is no map of bones: it needs lines such as 'l_hip: Thigh_L'")
    for joint in loaded:
        if joint not in HUMANML3D.names:
            raise MotionGPT3Error(f"{path.name} names {str(joint)[:40]!r}; joints are {', '.join(HUMANML3D.names)}")
    return {joint: str(bone) for joint, bone in loaded.items()}


def _check(found: dict[str, int], rig: RestingRig) -> None:
    """Each bone serves one joint, and hangs from the joint above it in our skeleton."""
    taken: dict[int, str] = {}
    for joint, node in found.items():
        if node in taken:
            raise MotionGPT3Error(f"the bone {rig.names[node][:60]!r} is taken for both {taken[node]} and {joint}")
        taken[node] = joint
    ours = {HUMANML3D.index(joint) for joint in found}
    for joint, node in found.items():
        above = taken.get(nearest_above(node, rig.parents, taken), "nothing")
        wanted = nearest_above(HUMANML3D.index(joint), HUMANML3D.parents, ours)
        expected = HUMANML3D.names[wanted] if wanted >= 0 else "nothing"
        if above != expected:
            raise MotionGPT3Error(
                f"the bone {rig.names[node][:60]!r} for {joint} does not hang from the one for "
                f"{expected}: name the bones in a YAML file (--bones)"
            )


@dataclass(frozen=True)
class PlacedJoints:
    """How our 22 joints follow from a skeleton's.

    Attributes:
        kind: what skeleton it is, or what told which bone is which.
        nodes: the N nodes they follow from.
        weights: (22, N), which add up to 1 for each joint; NaN for a toe that there is not.
        names: {our joint: the node's name}, of those that are one.
        notes: joints that were computed.
        doubts: what may be otherwise.
        t_pose_first: whether a T-pose may stand before the recording.
    """

    kind: str
    nodes: list[int]
    weights: Float64
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    t_pose_first: bool = False

    def assemble(self, positions: Float64) -> Float64:
        """Positions (T, N, 3) of the nodes -> (T, 22, 3) of our joints, in the same axes and unit."""
        toes = np.isnan(self.weights).any(1)
        placed: Float64 = np.einsum("js,tsk->tjk", self.weights, positions)
        return toes_ahead(placed) if toes.any() else placed


def place_joints(
    rig: RestingRig, given: Mapping[str, str] | None = None, labels: dict[str, int] | None = None
) -> PlacedJoints:
    """All 22 joints from the joints of a recording or of a character that moves; arguments and errors as of `find`."""
    names = rig.names
    if not given and (dialect := match(names)):
        return by_dialect(dialect, names)
    found = find(rig, given, labels)
    nodes, weights = complete(found, rig)
    lacking = [joint for joint in HUMANML3D.names if joint not in found.nodes]
    notes = [f"which bone is which: {found.how}"]
    notes += [f"no bone is {', '.join(lacking)}: placed by those beside (--bones names others)"] if lacking else []
    shown = ", ".join(f"{joint}: {names[node]}" for joint, node in found.nodes.items() if joint in REQUIRED)
    doubts = (f"which bone is which was {BY_PLACE} ({shown}); name them with --bones",) if found.how == BY_PLACE else ()
    return PlacedJoints(
        found.how, nodes, weights, {joint: names[node] for joint, node in found.nodes.items()}, tuple(notes), doubts
    )


def by_dialect(dialect: Dialect, names: Sequence[str]) -> PlacedJoints:
    """The 22 joints of a recording of a known kind, from its joints' names."""
    spelled = {plain(name): node for node, name in reversed(list(enumerate(names)))}
    single = {joint: next(iter(mix)) for joint, mix in dialect.joints.items() if len(mix) == 1}
    return PlacedJoints(
        dialect.name,
        [spelled[source] for source in dialect.sources()],
        dialect.weights(),
        {joint: names[spelled[source]] for joint, source in single.items()},
        t_pose_first=dialect.t_pose_first,
    )


def complete(found: FoundBones, rig: RestingRig) -> tuple[list[int], Float64]:
    """How all 22 joints follow from the found ones: nodes, and weights (22, nodes) that add up to 1 for each joint.

    A joint of the trunk that a skeleton lacks lies between its neighbours as in HumanML3D's skeleton, a collar three
    tenths of the way to the shoulder. A toe is whatever hangs farthest from the ankle; where nothing does, the weights
    of the toe are NaN (`toes_ahead`).
    """
    mixes: dict[str, dict[int, float]] = {joint: {node: 1.0} for joint, node in found.nodes.items()}
    heights = np.cumsum([0.0, *(HUMANML3D.bone_lengths[HUMANML3D.index(joint)] for joint in _TRUNK[1:])])
    has = [number for number, joint in enumerate(_TRUNK) if joint in mixes]
    for low, high in pairwise(has):
        for number in range(low + 1, high):
            part = float((heights[number] - heights[low]) / (heights[high] - heights[low]))
            mixes[_TRUNK[number]] = _mixed(mixes[_TRUNK[low]], mixes[_TRUNK[high]], part)
    for side in ("l_", "r_"):
        if f"{side}collar" not in mixes:
            mixes[f"{side}collar"] = _mixed(mixes["spine3"], mixes[f"{side}shoulder"], 0.3)
        if f"{side}foot" not in mixes:
            ankle = found.nodes[f"{side}ankle"]
            away = {node: float(np.linalg.norm(rig.places[node] - rig.places[ankle])) for node in rig.below(ankle)}
            tip = max(away, key=lambda node: away[node], default=ankle)
            mixes[f"{side}foot"] = {tip: 1.0 if away.get(tip, 0) > 0.02 * float(np.ptp(rig.places)) else np.nan}
    nodes = sorted({node for mix in mixes.values() for node in mix})
    return nodes, np.array([[mixes[joint].get(node, 0.0) for node in nodes] for joint in HUMANML3D.names])


_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")


def _mixed(one: dict[int, float], other: dict[int, float], part: float) -> dict[int, float]:
    return {node: (1 - part) * one.get(node, 0.0) + part * other.get(node, 0.0) for node in {**one, **other}}


def toes_ahead(joints: Float64) -> Float64:
    """Joints (T, 22, 3) with toes where they are NaN: ahead of the ankles, at right angles to the shins.

    A foot is a third as long as the shin, as in HumanML3D's skeleton. Any axes, any unit.
    """
    (left_hip, right_hip), shoulders = HUMANML3D.hips, list(HUMANML3D.shoulders)
    hips = joints[:, left_hip] - joints[:, right_hip]
    ahead = np.cross(hips, joints[:, shoulders].mean(1) - joints[:, [left_hip, right_hip]].mean(1))
    filled = joints.copy()
    for _, knee, ankle, toe in HUMANML3D.legs:
        shin = joints[:, ankle] - joints[:, knee]
        size = np.linalg.norm(shin, axis=-1, keepdims=True)
        level = ahead - shin * ((ahead * shin).sum(-1, keepdims=True) / np.maximum(size, 1e-12) ** 2)
        level *= size / 3 / np.maximum(np.linalg.norm(level, axis=-1, keepdims=True), 1e-12)
        filled[:, toe] = np.where(np.isfinite(joints[:, toe]), joints[:, toe], joints[:, ankle] + level)
    return filled


_WORDS = (
    ("foot", r"toe|ball"), ("ankle", r"ankle"), ("knee", r"calf|shin|knee|lo(wer)? ?leg"),
    ("hip", r"thigh|up(per)? ?leg"), ("wrist", r"wrist"), ("elbow", r"fore ?arm|elbow|lo(wer)? ?arm|^f ?arm$"),
    ("shoulder", r"up(per)? ?arm|shldr|^u ?arm$"), ("collar", r"clavicle|collar|scapula"),
)  # fmt: skip
"""What a limb's bone is called, the first that fits; without the side, in lower case, words apart."""
_WEAK_WORDS = (
    ("foot", "ankle", r"foot"), ("wrist", "", r"hand"), ("hip", "", r"^hip$"), ("knee", "", r"^leg$"),
    ("hip", "", r"^leg$"), ("shoulder", "", r"^arm$"), ("shoulder", "collar", r"^shoulder$"),
    ("collar", "", r"^shoulder$"), ("ankle", "", r"foot"), ("shoulder", "", r"^shoulder$"),
)  # fmt: skip
"""Words that mean this joint or that, in the order in which they are tried once the clear ones are placed: a shoulder
is the shoulder beside a collar, and the collar beside an arm. Each: joint, one that has to be there already, words."""
_EXTRA = re.compile(
    r"twist|roll|ik|pole|ctrl|control|end|tip|nub|helper|metacarpal|thumb|index|middle|ring|pinky|finger"
)
"""Words of bones that are none of our joints though they are called after them."""


def _guessed(rig: RestingRig) -> tuple[dict[str, int], str]:
    """Limbs by the words in the names, or else by where they lie, then what is between them; and what told so."""
    found, how = _limbs_by_words(rig), "guessed from the words in their names"
    limbs = [joint for joint in REQUIRED if joint.startswith(("l_", "r_"))]
    if not all(joint in found for joint in limbs):
        _, height, depth = np.ptp(rig.places[list(rig.bones)], axis=0)
        if depth > height:  # a figure is taller than it is deep: z is up
            rig = replace(rig, places=rig.places[:, [0, 2, 1]] * [1, 1, -1])
        found, how = _limbs_by_place(rig), BY_PLACE
    return found | {joint: node for joint, node in _trunk(found, rig).items() if node not in found.values()}, how


def _limbs_by_words(rig: RestingRig) -> dict[str, int]:
    """Arms and legs by the words in their names; words that most names have, such as a program's, do not count."""
    named = {bone: _words(rig.names[bone]) for bone in sorted(rig.bones, key=lambda node: len(rig.path(node)))}
    counts = Counter(word for _, words in named.values() for word in set(words.split()))
    common = {word for word, count in counts.items() if count > 0.7 * len(named)}
    limbs = {
        bone: (side, " ".join(word for word in words.split() if word not in common))
        for bone, (side, words) in named.items()
        if side and not _EXTRA.search(words)
    }
    found: dict[str, int] = {}
    for bone, (side, words) in limbs.items():
        joint = next((joint for joint, pattern in _WORDS if re.search(pattern, words)), None)
        if joint:
            found.setdefault(side + joint, bone)
    for joint, beside, pattern in _WEAK_WORDS:
        for bone, (side, words) in limbs.items():
            fits = re.search(pattern, words) and (not beside or side + beside in found)
            if fits and side + joint not in found and bone not in found.values():
                found[side + joint] = bone
    return found


def _words(name: str) -> tuple[str, str]:
    """The side ("l_", "r_" or "") and the other words of a name, in lower case: UpperArm.L -> ("l_", "upper arm")."""
    name = re.sub(r"^([LR])(?=[A-Z])|([LR])$", r" \1\2 ", plain(name)) if not name.isupper() else plain(name)
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s._\-:|]+|(?<=[A-Za-z])(?=\d)", " ", name).lower().split()
    side = ""
    rest = []
    for word in apart:
        if word in ("l", "left", "r", "right") and not side:
            side = f"{word[0]}_"
        elif not word.isdigit() and word not in ("bip", "def", "bone", "jnt", "joint", "j", "c", "m", "avg", "b"):
            rest.append(word)
    return side, " ".join(rest)


def _limbs_by_place(rig: RestingRig) -> dict[str, int]:
    """Arms and legs of a figure that stands in a T or A facing +z or -z: the lowest tips, and those farthest aside.

    All distances are shares of the figure's height, chosen by eye on rigs of many kinds.
    """
    places, bones = rig.places, rig.bones
    inner = {rig.parents[bone] for bone in bones}
    low, height = min(places[bone][1] for bone in bones), float(np.ptp([places[bone][1] for bone in bones])) or 1.0
    middle = float(np.median([places[bone][0] for bone in bones]))
    # The figure looks the way that the lowest bones point.
    feet = [bone for bone in bones if places[bone][1] < low + 0.12 * height and rig.parents[bone] in bones]
    ahead = sum(float(places[bone][2] - places[rig.parents[bone]][2]) for bone in feet)
    facing = -1.0 if ahead < -0.01 * height else 1.0
    found: dict[str, int] = {}
    for side, sign in (("l_", facing), ("r_", -facing)):
        aside = {bone: float(sign * (places[bone][0] - middle)) for bone in bones}
        tips = [bone for bone in bones if bone not in inner and aside[bone] > 0.01 * height]
        if not tips:
            continue
        toe, hand = min(tips, key=lambda tip: places[tip][1]), max(tips, key=lambda tip: sign * places[tip][0])
        leg, arm = ([n for n in rig.path(tip) if aside.get(n, -1.0) > 0.005 * height] for tip in (toe, hand))
        if len(leg) >= 3 and places[toe][1] < low + 0.15 * height:
            found |= {side + name: node for name, node in zip(("hip", "knee", "ankle", "foot"), leg, strict=False)}
        # Upper and lower arm are the longest bones on the way to a hand, one another's neighbours.
        lengths = [float(np.linalg.norm(places[b] - places[a])) for a, b in pairwise(arm)]
        if len(lengths) >= 2:
            at = max(range(len(lengths) - 1), key=lambda i: min(lengths[i], lengths[i + 1]))
            names = ("collar", "shoulder", "elbow", "wrist") if at else ("shoulder", "elbow", "wrist")
            found |= {side + name: node for name, node in zip(names, arm[max(at - 1, 0) :], strict=False)}
    return found


def _trunk(limbs: dict[str, int], rig: RestingRig) -> dict[str, int]:
    """Pelvis, spine, neck and head between arms and legs that are known."""
    if not all(joint in limbs for joint in ("l_hip", "r_hip", "l_shoulder", "r_shoulder")):
        return {}
    pelvis = _common(limbs["l_hip"], limbs["r_hip"], rig)
    left, right = (limbs.get(f"{side}collar", limbs[f"{side}shoulder"]) for side in ("l_", "r_"))
    chest = _common(left, right, rig)
    if not {pelvis, chest} <= set(rig.bones) or pelvis not in rig.path(chest):
        return {}
    path = rig.path(chest)
    spine = _apart([node for node in path[path.index(pelvis) :] if node in rig.bones], rig)[1:]
    if len(spine) > 3:
        spine = [spine[0], spine[len(spine) // 2], spine[-1]]
    joints = ("spine1", "spine3") if len(spine) == 2 else ("spine1", "spine2", "spine3")
    found = {"pelvis": pelvis, **dict(zip(joints, spine, strict=False))}
    used = set(limbs.values())
    above = [b for b in rig.bones if chest in rig.path(b)[:-1] and not used & set(rig.path(b))]
    if above:
        heads = [b for b in above if "head" in _words(rig.names[b])[1] and not _EXTRA.search(_words(rig.names[b])[1])]
        top = heads[0] if heads else max(above, key=lambda b: rig.places[b][1])
        rise = _apart([chest, *(node for node in rig.path(top) if node in above)], rig)[1:]
        found |= {"neck": rise[0], "head": rise[1]} if len(rise) > 1 else {"head": rise[-1] if rise else top}
    return found


def _common(one: int, other: int, rig: RestingRig) -> int:
    """The lowest node above both; -1 if there is none."""
    shared = [a for a, b in zip(rig.path(one), rig.path(other), strict=False) if a == b]
    return shared[-1] if shared else -1


def _apart(path: list[int], rig: RestingRig) -> list[int]:
    """A path without the nodes that lie where the one before does: they only turn."""
    size = float(np.ptp(rig.places[:, 1])) or 1.0
    kept = path[:1]
    for node in path[1:]:
        if np.linalg.norm(rig.places[node] - rig.places[kept[-1]]) > 0.005 * size:
            kept.append(node)
    return kept
