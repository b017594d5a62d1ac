"""BVH: reads the common dialects, writes one that Blender and Mixamo tools know.

The parser is our own because pybvh 0.9 refuses position channels below the root, which all Bandai-Namco files have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.characters.bone_names import END, OWN, OWN_NAMES, match
from motiongpt3.characters.mannequin import NODES
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import Fitted, fit
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.retarget import RestPose, own_rest_pose, to_rig, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import read_text, snap_fps

# The hierarchies in which BVH files are written: ours, Mixamo's and that of CMU's conversions (cgspeed).

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
    places = own_rest_pose(motion).places
    names, helpers = _CMU, _CMU_HELPERS
    if dialect == "mixamo":
        names = {joint: f"mixamorig:{bone}" for joint, bone in OWN_NAMES.items()}
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
    played = to_rig(motion, RestPose(places, 0.0), same_body=True)
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


MAX_BYTES = 256 * 2**20
MAX_HEADER = 2**21
MAX_JOINTS = 1000
_CHUNK = 2048
_CENTIMETRE = 0.01
_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)


@dataclass
class Node:
    """A joint of a BVH hierarchy.

    Attributes:
        name: as in the file.
        parent: index of the parent, -1 for the root.
        offset: (x, y, z) from the parent in file units.
        first: index of its first value in a frame.
        channels: (axis 0..2, whether it is a rotation), in file order.
        is_end: whether it is the end site of its parent, whose name it has with " end" added.
    """

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    first: int = 0
    channels: list[tuple[int, bool]] = field(default_factory=list)
    is_end: bool = False

    @property
    def order(self) -> str:
        """Axes of its rotation channels in file order, such as ZXY."""
        return "".join("XYZ"[axis] for axis, turns in self.channels if turns)


@dataclass
class Bvh:
    """A parsed file: the hierarchy, (T, C) channel values (degrees and file units) and seconds per frame."""

    nodes: list[Node]
    values: NDArray[np.float64]
    frame_time: float

    def positions(self, names: list[str] | None = None) -> NDArray[np.float64]:
        """(T, N, 3) world positions of the named joints, or of all, in file units."""
        index = {node.name: i for i, node in enumerate(self.nodes)}
        wanted = list(index.values()) if names is None else [index[name] for name in names]
        parts = [self._chunk(self.values[i : i + _CHUNK])[:, wanted] for i in range(0, len(self.values), _CHUNK)]
        return np.concatenate(parts)

    def _chunk(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = np.empty((len(values), len(self.nodes), 3, 3))
        for order in {node.order for node in self.nodes}:
            nodes = [i for i, node in enumerate(self.nodes) if node.order == order]
            if not order:
                turned[:, nodes] = np.eye(3)
                continue
            columns = [[self.nodes[i].first + k for k, (_, t) in enumerate(self.nodes[i].channels) if t] for i in nodes]
            angles = torch.from_numpy(values[:, columns])
            turned[:, nodes] = roma.euler_to_rotmat(order, angles, degrees=True).numpy()
        places = np.empty((len(values), len(self.nodes), 3))
        for i, node in enumerate(self.nodes):
            # Position channels replace the offset, as all programs read them.
            local = np.tile(np.asarray(node.offset), (len(values), 1))
            for k, (axis, turns) in enumerate(node.channels):
                if not turns:
                    local[:, axis] = values[:, node.first + k]
            if node.parent < 0:
                places[:, i] = local
                continue
            parent = turned[:, node.parent]
            places[:, i] = places[:, node.parent] + np.einsum("tij,tj->ti", parent, local)
            turned[:, i] = parent @ turned[:, i]
        return places


def read(path: Path) -> Motion:
    """Read a BVH file as the 22 joints, at the file's own frame rate.

    Files this module wrote come back as they were. The other dialects (see `motiongpt3.characters.bone_names`) are
    scaled to metres and given HumanML3D's bone lengths with every bone's direction kept. The cgspeed conversion of CMU
    puts a T-pose before the recording: that first frame is dropped if it jumps to the second one.

    Raises:
        MotionGPT3Error: no BVH, no frames, impossible channels, values missing or not finite, unknown joint names.
    """
    bvh = parse(read_text(path, MAX_BYTES), path.name)
    names = [node.name for node in bvh.nodes]
    dialect = match(names, path.name)
    with np.errstate(all="ignore"):
        joints = dialect.assemble(bvh.positions(dialect.sources(names)))
    if not np.isfinite(joints).all():
        raise MotionGPT3Error(f"{path.name}: joint positions are too large to compute")
    if dialect.t_pose_first and _jumps(joints):
        joints = joints[1:]
    placed = joints * _CENTIMETRE if dialect is OWN else to_skeleton(joints)
    return Motion(placed, fps=snap_fps(1 / bvh.frame_time), name=path.stem)


def _jumps(joints: NDArray[np.float64]) -> bool:
    """Whether the first step is far longer than any of the steps that follow in the first half second."""
    steps = np.linalg.norm(np.diff(joints[:60] - joints[:60, :1], axis=0), axis=-1).mean(-1)
    return len(steps) > 2 and bool(steps[0] > 5 * steps[1:].max())


def parse(text: str, name: str) -> Bvh:
    """Parse the text of a BVH file; `name` is how errors call it."""
    keyword = re.search(r"(?<!\S)MOTION(?!\S)", text)
    header, body = (text[: keyword.start()], text[keyword.end() :]) if keyword else ("", "")
    if not header[:1000].lstrip("\ufeff \t\r\n").startswith("HIERARCHY"):
        raise MotionGPT3Error(f"{name} is not a BVH file: it needs a HIERARCHY and a MOTION part")
    if len(header) > MAX_HEADER:
        raise MotionGPT3Error(f"{name}: the HIERARCHY is longer than {MAX_HEADER // 2**20} MB")
    nodes = _hierarchy(header.lstrip("\ufeff").split()[1:], name)
    found = re.match(r"\s*Frames\s*:\s*(\S+)\s+Frame\s+Time\s*:\s*(\S+)", body, re.IGNORECASE)
    if not found:
        raise MotionGPT3Error(f"{name}: after MOTION come 'Frames: N' and 'Frame Time: SECONDS'")
    frames, frame_time = int(_number(found[1], "Frames", name)), _number(found[2], "Frame Time", name)
    if not 1 <= frames <= MAX_FRAMES:
        raise MotionGPT3Error(f"{name} holds {frames} frames; 1 to {MAX_FRAMES} are expected")
    if not 1e-3 <= frame_time <= 1e3:
        raise MotionGPT3Error(f"{name}: a frame time of {found[2]} seconds is impossible")
    columns = sum(len(node.channels) for node in nodes)
    values = np.empty(frames * columns)
    filled = 0
    for numbers in _numbers(body, found.end(), name):
        if filled + len(numbers) > len(values):
            raise MotionGPT3Error(f"{name} declares {frames} frames of {columns} values but holds more")
        values[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
    if filled < len(values) or not columns:
        raise MotionGPT3Error(f"{name} declares {frames} frames of {columns} values but holds only {filled} values")
    if not np.isfinite(values).all():
        raise MotionGPT3Error(f"{name} contains NaN or infinite values")
    return Bvh(nodes, values.reshape(frames, columns), frame_time)


def _numbers(body: str, start: int, name: str) -> Iterator[NDArray[np.float64]]:
    """The numbers of the motion part, a megabyte at a time."""
    while start < len(body):
        end = start + 2**20
        gap = re.compile(r"\s|$").search(body, end) if end < len(body) else None
        end = gap.start() if gap else len(body)
        try:
            yield np.array(body[start:end].split(), dtype=np.float64)
        except ValueError as error:
            raise MotionGPT3Error(f"{name}: {str(error)[:100]} in the motion part") from None
        start = end


def _hierarchy(tokens: list[str], name: str) -> list[Node]:
    nodes: list[Node] = []
    names: set[str] = set()
    stack: list[int] = []
    width = at = 0
    while at < len(tokens):
        word = tokens[at].upper()
        at += 1
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") == bool(nodes) or (word != "ROOT" and not (stack and not nodes[stack[-1]].is_end)):
                raise MotionGPT3Error(f"{name}: a {word} stands where none can be; one ROOT holds all JOINTs")
            try:
                brace = tokens.index("{", at, at + 20)
            except ValueError:
                raise MotionGPT3Error(f"{name}: no '{{' after {word} {' '.join(tokens[at : at + 1])[:60]}") from None
            label, at = " ".join(tokens[at:brace]), brace + 1
            if word == "END":
                label = nodes[stack[-1]].name + END
                while label in names:
                    label += END
            if label in names:
                raise MotionGPT3Error(f"{name}: joint {label[:60]!r} appears twice: a cycle or a duplicate")
            if len(nodes) == MAX_JOINTS:
                raise MotionGPT3Error(f"{name} has more than {MAX_JOINTS} joints")
            nodes.append(Node(label, stack[-1] if stack else -1, is_end=word == "END"))
            names.add(label)
            stack.append(len(nodes) - 1)
        elif word == "OFFSET" and stack:
            x, y, z = (_number(token, "OFFSET", name) for token in [*tokens[at : at + 3], "", "", ""][:3])
            nodes[stack[-1]].offset = (x, y, z)
            at += 3
        elif word == "CHANNELS" and stack and not nodes[stack[-1]].is_end:
            node, count = nodes[stack[-1]], tokens[at] if at < len(tokens) else ""
            if node.channels:
                raise MotionGPT3Error(f"{name}: joint {node.name[:60]!r} has two CHANNELS lines")
            listed = tokens[at + 1 : at + 1 + int(count)] if count.isdecimal() and len(count) < 3 else []
            found = [_CHANNEL.fullmatch(token) for token in listed]
            node.channels = [("XYZ".index(m[1].upper()), m[2].lower() == "rotation") for m in found if m]
            if count != str(len(node.channels)) or len(set(node.channels)) != len(node.channels):
                what = " ".join([count, *listed])[:80]
                raise MotionGPT3Error(f"{name}: joint {node.name[:60]!r} has impossible channels: {what!r}")
            node.first = width
            width += len(node.channels)
            at += 1 + len(listed)
        elif word == "}" and stack:
            stack.pop()
        else:
            raise MotionGPT3Error(f"{name}: {tokens[at - 1][:60]!r} stands where no such word can be in the HIERARCHY")
    if not nodes or stack:
        raise MotionGPT3Error(f"{name}: the HIERARCHY {'ends before its last }' if nodes else 'has no ROOT'}")
    return nodes


def _number(token: str, what: str, name: str) -> float:
    try:
        number = float(token)
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e9:
        raise MotionGPT3Error(f"{name}: {what} has {token[:40]!r} where a number is expected")
    return number


def write(motion: Motion, path: Path, dialect: BvhDialect = "ours") -> None:
    """Write a BVH file: rest in a T-pose, y up, centimetres, ZXY angles without jumps.

    A bone of the file has one length: the mean over the clip. Each joint is aimed at where it was, so what the
    lengths lose hardly adds up along a limb.

    Args:
        motion: of HumanML3D's skeleton.
        path: the file.
        dialect: names and hierarchy, see `formats.bvh_rigs.figure`: "ours" (Mixamo's names, and joints without length
            that turn one bone each, so that nothing is lost), "mixamo" or "cmu".

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, no such dialect, or the folder cannot be written.
    """
    require_humanml3d(motion, "BVH")
    shown = figure(motion, dialect)
    lines: list[str] = ["HIERARCHY"]
    _write_joint(0, "", shown.joints, lines)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.10g}"]
    angles = _smooth_angles(shown.rotations)
    rows = np.concatenate([shown.root / _CENTIMETRE, angles.reshape(len(motion), -1)], axis=1)
    template = " ".join(["%.5f"] * rows.shape[1])
    lines += [template % tuple(row) for row in rows.tolist()]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _write_joint(number: int, indent: str, joints: list[BvhJoint], lines: list[str]) -> None:
    """Append a joint and all below it."""
    joint = joints[number]
    channels = "3 Zrotation" if number else "6 Xposition Yposition Zposition Zrotation"
    lines += [
        f"{indent}{'JOINT' if number else 'ROOT'} {joint.name}",
        indent + "{",
        f"{indent}\tOFFSET {_triple(joint.offset / _CENTIMETRE)}",
        f"{indent}\tCHANNELS {channels} Xrotation Yrotation",
    ]
    for child, other in enumerate(joints):
        if other.parent == number:
            _write_joint(child, indent + "\t", joints, lines)
    if joint.tip is not None:
        end = "\t" + indent
        lines += [f"{end}End Site", end + "{", f"{end}\tOFFSET {_triple(joint.tip / _CENTIMETRE)}", end + "}"]
    lines.append(indent + "}")


def _triple(vector: NDArray[np.float64]) -> str:
    return " ".join(f"{number:.6f}" for number in vector.tolist())


def _smooth_angles(rotations: torch.Tensor) -> NDArray[np.float64]:
    """(T, N, 3, 3) rotations -> (T, N, 3) ZXY angles in degrees that go on from frame to frame without jumps.

    Each rotation has two triples, (z, x, y) and (z + 180, 180 - x, y + 180). Whether the nearer one is of the same
    kind as the frame before is known for each pair of frames alone, so a running count of the changes picks them.
    """
    first: NDArray[np.float64] = roma.rotmat_to_euler("ZXY", rotations, degrees=True).numpy()
    second = np.stack([first[..., 0] + 180, 180 - first[..., 1], first[..., 2] + 180], axis=-1)

    def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs((a - b + 180) % 360 - 180).sum(-1)

    changes = distance(first[:-1], second[1:]) < distance(first[:-1], first[1:])
    swapped = np.zeros(first.shape[:2], dtype=bool)
    swapped[1:] = np.cumsum(changes, axis=0) % 2 == 1
    chosen = np.where(swapped[..., None], second, first)
    unwrapped: NDArray[np.float64] = np.unwrap(chosen, axis=0, period=360)
    return unwrapped - 360 * np.round(unwrapped[:1] / 360)
