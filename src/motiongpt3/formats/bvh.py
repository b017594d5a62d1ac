"""BVH: reads the common dialects, writes one that Blender and Mixamo tools know.

The parser is our own because pybvh 0.9 refuses position channels below the root, which all Bandai-Namco files have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import roma
import torch

from motiongpt3.characters.bone_names import END, OWN, OWN_NAMES, RestingRig, place_joints
from motiongpt3.characters.mannequin import NODES, rig_offsets, rig_rotations
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import BvhDialect, Reading, ReadOptions, in_chunks, snap_fps
from motiongpt3.motion.kinematics import fit_t_pose, pose_joints
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.retarget import RestPose, own_rest_pose, to_rig, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D, Float64, nearest_above
from motiongpt3.motion.upright import LEFT_OUT, find_upright, has_leading_t_pose, jumps_at_start, on_floor
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import read_text

MAX_BYTES = 256 * 2**20
"""The longest file of the datasets we read has 60 MB."""
MAX_HEADER = 2**21
"""Characters of the HIERARCHY; that of a hundred joints has 10,000."""
MAX_PREAMBLE = 2000
"""Characters in which HIERARCHY, and after MOTION both numbers, are looked for; some writers say first who they are."""
MAX_JOINTS = 1000
"""Rigs with fingers and a face have 200."""
_CENTIMETRE = 0.01
"""Our files are in centimetres, as Mixamo's; metres are the unit here."""
_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)


@dataclass
class BvhJoint:
    """A joint of a BVH hierarchy.

    Attributes:
        name: as in the file.
        parent: index of the parent, -1 for the root.
        offset: (3,) from the parent in file units.
        is_end: whether it is the end site of its parent, whose name it has with " end" added.
        first: index of its first value in a frame.
        channels: (axis 0..2, whether it is a rotation), in file order.
    """

    name: str
    parent: int
    offset: Float64
    is_end: bool = False
    first: int = 0
    channels: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def order(self) -> str:
        """Axes of its rotation channels in file order, such as ZXY."""
        return "".join("XYZ"[axis] for axis, turns in self.channels if turns)


@dataclass
class Bvh:
    """A parsed file: the hierarchy, (T, C) channel values (degrees and file units) and seconds per frame.

    `notes` and `doubts` say what was mended, a line each.
    """

    joints: list[BvhJoint]
    values: Float64
    frame_time: float
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def rest(self) -> Float64:
        """(N, 3) positions of the joints where no joint turns, the root at 0, in file units."""
        places: list[Float64] = []
        for joint in self.joints:
            places.append(joint.offset + places[joint.parent] if joint.parent >= 0 else np.zeros(3))
        return np.array(places)

    def positions(self, joints: Sequence[str | int] | None = None) -> Float64:
        """(T, N, 3) world positions of these joints, by name or number, or of all, in file units."""
        index = {joint.name: number for number, joint in enumerate(self.joints)}
        wanted = [index[joint] if isinstance(joint, str) else joint for joint in joints or range(len(self.joints))]
        return in_chunks(lambda frames: self._posed(self.values[frames])[:, wanted], len(self.values))

    def _posed(self, values: Float64) -> Float64:
        rotations = torch.eye(3, dtype=torch.float64).repeat(len(values), len(self.joints), 1, 1)
        offsets = np.tile([joint.offset for joint in self.joints], (len(values), 1, 1))
        for i, joint in enumerate(self.joints):
            columns = range(joint.first, joint.first + len(joint.channels))
            turning = [column for column, (_, turns) in zip(columns, joint.channels, strict=True) if turns]
            if turning:
                angles = torch.from_numpy(values[:, turning])
                rotations[:, i] = roma.euler_to_rotmat(joint.order, angles, degrees=True)
            for column, (axis, turns) in zip(columns, joint.channels, strict=True):
                if not turns:  # Position channels replace the offset, as all programs read them.
                    offsets[:, i, axis] = values[:, column]
        parents = [joint.parent for joint in self.joints]
        return pose_joints(rotations, torch.from_numpy(offsets), parents)[1].numpy()


def read(path: Path, options: ReadOptions) -> Reading:
    """Read a BVH file as the 22 joints, at the file's own frame rate.

    Files this module wrote come back as they were. All others (which joint is which, `characters.bone_names` tells)
    are turned to y up, scaled to metres and given HumanML3D's bone lengths with every bone's direction kept. A T-pose
    before the recording, as the cgspeed conversion of CMU has, is dropped. A root without places stands on the floor.

    Raises:
        MotionGPT3Error: no BVH, no frames, impossible channels, values missing or not finite, or joints that are not
            found.
    """
    bvh = parse(read_text(path, MAX_BYTES), path.name, options.fps)
    bones = place_joints(
        RestingRig(
            [joint.name for joint in bvh.joints],
            [joint.parent for joint in bvh.joints],
            bvh.rest(),
            [number for number, joint in enumerate(bvh.joints) if not joint.is_end],
        ),
        options.bones,
    )
    notes = [*bvh.notes, *bones.notes]
    with np.errstate(all="ignore"):
        joints = bones.assemble(bvh.positions(bones.nodes))
    if not (np.abs(joints) < 1e9).all():  # or not finite
        raise MotionGPT3Error(f"{path.name}: joint positions are too large to compute")
    rest, ours = bones.assemble(bvh.rest()[None, bones.nodes])[0], bones.kind == OWN.name
    if not ours and ((bones.t_pose_first and jumps_at_start(joints)) or has_leading_t_pose(joints, rest)):
        joints = joints[1:]
        notes.append(LEFT_OUT)
    stands = find_upright(joints, rest, options.up, options.unit, "cm" if ours else None, trusted=ours)
    turned = stands.turned(joints)
    placed, raised = (turned * stands.metres, ()) if ours else on_floor(to_skeleton(turned))
    motion = Motion(placed, fps=options.fps or snap_fps(1 / bvh.frame_time), name=path.stem)
    return Reading(
        motion,
        (*notes, *stands.notes, *raised),
        (*bvh.doubts, *bones.doubts, *stands.doubts),
        bones.names,
        stands.facts,
    )


def parse(text: str, name: str, fps: float | None = None) -> Bvh:
    """Parse the text of a BVH file.

    What writers get wrong is mended where it is clear what they meant: comments, a DOS end of file, commas for points,
    a number of frames that is not that of the rows, and frame times as `_frame_time` says.

    Args:
        text: the file.
        name: how errors call it.
        fps: its frame rate, whatever it says itself.

    Raises:
        MotionGPT3Error: it is no BVH file, or damaged.
    """
    text = text.lstrip("\ufeff").rstrip("\x1a\0 \t\r\n")
    text = _COMMENT.sub("", text) if any(mark in text for mark in ("#", "//", ";")) else text
    keyword = _MOTION.search(text)
    header, body = (text[: keyword.start()], text[keyword.end() :]) if keyword else ("", "")
    begins = _HIERARCHY.search(header[:MAX_PREAMBLE])
    if not begins:
        raise MotionGPT3Error(f"{name} is not a BVH file: it needs a HIERARCHY and a MOTION part")
    if len(header) > MAX_HEADER:
        raise MotionGPT3Error(f"{name}: the HIERARCHY is longer than {MAX_HEADER // 2**20} MB")
    joints = _hierarchy(_with_points(header[begins.end() :]).split(), name)
    found = _TIMING.match(body[:MAX_PREAMBLE])
    if not found:
        raise MotionGPT3Error(f"{name}: after MOTION come 'Frames: N' and 'Frame Time: SECONDS'")
    declared = int(_number(found[1], "Frames", name))
    if not 1 <= declared <= MAX_FRAMES:
        raise MotionGPT3Error(f"{name} holds {declared} frames; 1 to {MAX_FRAMES} are expected")
    frame_time, notes, doubts = _frame_time(_with_points(found[2]), name) if fps is None else (1 / fps, [], [])
    columns = sum(len(joint.channels) for joint in joints)
    if not columns:
        raise MotionGPT3Error(f"{name}: no joint has CHANNELS")
    parts, filled = [], 0
    for numbers in _numbers(_with_points(body[found.end() :]), name):
        filled += len(numbers)
        if filled > MAX_FRAMES * columns:
            raise MotionGPT3Error(f"{name} holds more than {MAX_FRAMES} frames")
        parts.append(numbers)
    frames, rest = divmod(filled, columns)
    if rest or not frames:
        raise MotionGPT3Error(f"{name} declares {declared} frames of {columns} values but holds {filled} values")
    if frames != declared:
        told = f"the file declares {declared} frames and holds {frames}: all that is there is read"
        (notes if abs(frames - declared) == 1 else doubts).append(told)
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise MotionGPT3Error(f"{name} contains NaN or infinite values")
    return Bvh(joints, values.reshape(frames, columns), frame_time, tuple(notes), tuple(doubts))


_COMMENT = re.compile(r"(?<!\S)(?:#|//|;)[^\r\n]*")
_HIERARCHY = re.compile(r"^\s*HIERARCHY(?!\S)", re.IGNORECASE | re.MULTILINE)
_MOTION = re.compile(r"(?<!\S)MOTION(?!\S|\s*\{)", re.IGNORECASE)
_TIMING = re.compile(r"\s*Frames(?:\s*:)?\s*(\S+)\s+Frame\s*Time(?:\s*:)?\s*(\S+)", re.IGNORECASE)
_POINT = re.compile(r"\d\.\d")
_USUAL_FPS = (24, 25, 30, 48, 50, 60, 90, 100, 120, 240)
"""Rates at which people are recorded."""
_EXACT_DIGITS = 6
"""With as many decimals a frame time tells the rate; with fewer it is rounded or cut, and stands for a usual one."""
_ASSUMED_FPS = 30.0
"""Of a file that states none: what cameras and most exporters have."""


def _with_points(numbers: str) -> str:
    """Text without commas: they stand for points where there are none, and between numbers otherwise."""
    if "," not in numbers:
        return numbers
    return re.sub(r",(?=\s)", " ", numbers).replace(",", " " if _POINT.search(numbers) else ".")


def _frame_time(token: str, name: str) -> tuple[float, list[str], list[str]]:
    """Seconds per frame of what a file says, with notes and doubts: rounded, in milliseconds, as a rate, or none.

    Raises:
        MotionGPT3Error: it stands for no frame rate.
    """
    value = _number(token, "Frame Time", name)
    option = "--fps-in says another"
    if value == 0:
        return 1 / _ASSUMED_FPS, [], [f"the frame time is 0: {_ASSUMED_FPS:g} fps are assumed; {option}"]
    if value in _USUAL_FPS:
        return 1 / value, [], [f"a frame time of {token} is taken as {value:g} fps, not as seconds; {option}"]
    if 1 < value <= 1000:
        rate = _usual(token, 1000) or snap_fps(1000 / value)
        return 1 / rate, [f"a frame time of {token} is in milliseconds: {rate:g} fps"], []
    if not 1e-3 <= value <= 1:
        raise MotionGPT3Error(f"{name}: a frame time of {token} seconds is impossible; say the rate with --fps-in")
    usual = _usual(token, 1)
    if usual and abs(1 / value - usual) > 1e-4 * usual:
        return 1 / usual, [f"a frame time of {token} is rounded: {usual:g} fps"], []
    return value, [], []


def _usual(token: str, second: float) -> float | None:
    """The usual rate whose frame time, in parts of a `second`, is the rounded or cut one that a file says."""
    value, digits = float(token), len(token.partition(".")[2])
    if digits >= _EXACT_DIGITS:
        return None
    unit = 10.0**-digits
    near = [fps for fps in _USUAL_FPS if -unit / 2 - 1e-9 <= second / fps - value < unit - 1e-9]
    return float(min(near, key=lambda fps: abs(second / fps - value))) if near else None


def _numbers(body: str, name: str) -> Iterator[Float64]:
    """The numbers of the motion part, a megabyte at a time."""
    start = 0
    while start < len(body):
        gap = re.compile(r"\s|$").search(body, min(start + 2**20, len(body)))
        end = gap.start() if gap else len(body)
        try:
            yield np.array(body[start:end].split(), dtype=np.float64)
        except ValueError as error:
            raise MotionGPT3Error(f"{name}: {str(error)[:100]} in the motion part") from None
        start = end


def _hierarchy(tokens: list[str], name: str) -> list[BvhJoint]:
    joints: list[BvhJoint] = []
    names: set[str] = set()
    stack: list[int] = []
    width = at = 0
    while at < len(tokens):
        word = tokens[at].upper()
        at += 1
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") == bool(joints) or (word != "ROOT" and not (stack and not joints[stack[-1]].is_end)):
                raise MotionGPT3Error(f"{name}: a {word} stands where none can be; one ROOT holds all JOINTs")
            try:
                brace = tokens.index("{", at, at + 20)
            except ValueError:
                raise MotionGPT3Error(f"{name}: no '{{' after {word} {' '.join(tokens[at : at + 1])[:60]}") from None
            label, at = " ".join(tokens[at:brace]), brace + 1
            if word == "END":
                label = joints[stack[-1]].name + END
                while label in names:
                    label += END
            if label in names:
                raise MotionGPT3Error(f"{name}: joint {label[:60]!r} appears twice: a cycle or a duplicate")
            if len(joints) == MAX_JOINTS:
                raise MotionGPT3Error(f"{name} has more than {MAX_JOINTS} joints")
            joints.append(BvhJoint(label, stack[-1] if stack else -1, np.zeros(3), is_end=word == "END"))
            names.add(label)
            stack.append(len(joints) - 1)
        elif word == "OFFSET" and stack:
            numbers = [_number(token, "OFFSET", name) for token in [*tokens[at : at + 3], "", "", ""][:3]]
            joints[stack[-1]].offset = np.array(numbers)
            at += 3
        elif word == "CHANNELS" and stack and not joints[stack[-1]].is_end:
            joint, count = joints[stack[-1]], tokens[at] if at < len(tokens) else ""
            if joint.channels:
                raise MotionGPT3Error(f"{name}: joint {joint.name[:60]!r} has two CHANNELS lines")
            listed = tokens[at + 1 : at + 1 + int(count)] if count.isdecimal() and len(count) < 3 else []
            found = [_CHANNEL.fullmatch(token) for token in listed]
            joint.channels = [("XYZ".index(m[1].upper()), m[2].lower() == "rotation") for m in found if m]
            if count != str(len(joint.channels)) or len(set(joint.channels)) != len(joint.channels):
                what = " ".join([count, *listed])[:80]
                raise MotionGPT3Error(f"{name}: joint {joint.name[:60]!r} has impossible channels: {what!r}")
            joint.first = width
            width += len(joint.channels)
            at += 1 + len(listed)
        elif word == "}" and stack:
            stack.pop()
        else:
            raise MotionGPT3Error(f"{name}: {tokens[at - 1][:60]!r} stands where no such word can be in the HIERARCHY")
    if not joints or stack:
        raise MotionGPT3Error(f"{name}: the HIERARCHY {'ends before its last }' if joints else 'has no ROOT'}")
    return joints


def _number(token: str, what: str, name: str) -> float:
    try:
        number = float(token)
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e9:
        raise MotionGPT3Error(f"{name}: {what} has {token[:40]!r} where a number is expected")
    return number


_CMU_NAMES = {joint: name for joint, name in OWN_NAMES.items() if joint not in ("spine3", "l_collar", "r_collar")}
_CMU_NAMES["neck"] = "Neck1"
_CMU_HELPERS = {
    "l_hip": "LHipJoint", "r_hip": "RHipJoint", "spine1": "LowerBack", "neck": "Neck", "l_shoulder": "LeftShoulder",
    "r_shoulder": "RightShoulder",
}  # fmt: skip
"""Joints without length that those files have above these."""
_TIPS = {"head": 0.12, "l_foot": 0.06, "r_foot": 0.06, "l_wrist": 0.08, "r_wrist": 0.08}
"""Metres from the last joint of a limb to its end site: about where heads, shoes and fingers end."""


def write(motion: Motion, path: Path, dialect: BvhDialect = "ours") -> None:
    """Write a BVH file: rest in a T-pose, y up, centimetres, ZXY angles without jumps.

    A bone of the file has one length: the mean over the clip. Each joint is aimed at where it was, so what the
    lengths lose hardly adds up along a limb.

    Args:
        motion: of HumanML3D's skeleton.
        path: the file.
        dialect: names and hierarchy. "ours" has Mixamo's names and reaches every position: where several bones start
            at one joint, joints without length turn each on its own. "mixamo" and "cmu" are rigs of these programs'
            kind with the motion's bone lengths, on which it is put as on any character (`motion.retarget`): hips,
            chest and shoulders are rigid there.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, no such dialect, or the folder cannot be written.
    """
    require_humanml3d(motion, "BVH")
    fitted = fit_t_pose(motion)
    if dialect == "ours":
        joints = [BvhJoint(node.name, node.parent, at) for node, at in zip(NODES, rig_offsets(fitted), strict=True)]
        root, rotations = fitted.root, rig_rotations(fitted)
        names = OWN_NAMES
    elif dialect == "mixamo":
        names = {joint: f"mixamorig:{name}" for joint, name in OWN_NAMES.items()}
        joints, root, rotations = _rigid(motion, names, {}, own_rest_pose(motion).places)
    elif dialect == "cmu":
        names = _CMU_NAMES
        places = own_rest_pose(motion).places
        # CMU's conversions lost the thorax: from the neck on, all hangs lower by as much as one bone of the spine.
        places[HUMANML3D.index("neck") :] -= places[HUMANML3D.index("spine2")] - places[HUMANML3D.index("spine1")]
        places[[i for i, joint in enumerate(HUMANML3D.names) if joint not in names]] = np.nan
        joints, root, rotations = _rigid(motion, names, _CMU_HELPERS, places)
    else:
        raise MotionGPT3Error(f"BVH dialects are {', '.join(get_args(BvhDialect))}, not {dialect!r}")
    at = {joint.name: i for i, joint in enumerate(joints)}
    for tip, size in _TIPS.items():
        offset = fitted.directions[HUMANML3D.index(tip)] * size
        joints.append(BvhJoint(names[tip] + END, at[names[tip]], offset, is_end=True))
    angles = _smooth_angles(rotations)
    rows = np.concatenate([root / _CENTIMETRE, angles.reshape(len(motion), -1)], axis=1)
    template = " ".join(["%.5f"] * rows.shape[1])
    lines = ["HIERARCHY", *_hierarchy_lines(joints)]
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.10g}"]
    lines += [template % tuple(row) for row in rows.tolist()]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _rigid(
    motion: Motion, names: dict[str, str], helpers: dict[str, str], places: Float64
) -> tuple[list[BvhJoint], Float64, torch.Tensor]:
    """The motion on a rig in which each joint is one of ours, or a helper that lies where its parent does.

    Args:
        motion: what is played.
        names: {our joint: its name} of those that the rig has.
        helpers: {our joint: name of the helper above it}.
        places: (22, 3) metres, the rig's T-pose; NaN for the joints that it does not have.

    Returns:
        The joints in the order in which a file nests them, with offsets in metres; (T, 3) the root's way in metres;
        (T, N, 3, 3) how each joint turns.
    """
    played = to_rig(motion, RestPose(places, 0.0), same_body=True)
    still = torch.eye(3, dtype=torch.float64).expand(len(motion), 3, 3)
    kept = {HUMANML3D.index(name) for name in names}
    joints: list[BvhJoint] = []
    turns: list[torch.Tensor] = []
    at = {-1: -1}
    for joint in [node.joint for node in NODES if node.joint in kept and not node.is_helper]:
        name, above = HUMANML3D.names[joint], nearest_above(joint, HUMANML3D.parents, kept)
        parent = at[above]
        if name in helpers:
            parent = len(joints)
            joints.append(BvhJoint(helpers[name], at[above], np.zeros(3)))
            turns.append(still)
        at[joint] = len(joints)
        joints.append(BvhJoint(names[name], parent, places[joint] - places[max(above, 0)]))
        turns.append((played.turns[:, above] if above >= 0 else still).mT @ played.turns[:, joint])
    return joints, played.joints[:, 0], torch.stack(turns, dim=1)


def _hierarchy_lines(joints: list[BvhJoint], number: int = 0, indent: str = "") -> Iterator[str]:
    """The lines of a joint, whose offset is in metres, and of all below it."""
    joint = joints[number]
    yield f"{indent}End Site" if joint.is_end else f"{indent}{'JOINT' if number else 'ROOT'} {joint.name}"
    yield indent + "{"
    yield f"{indent}\tOFFSET {' '.join(f'{value:.6f}' for value in (joint.offset / _CENTIMETRE).tolist())}"
    if not joint.is_end:
        channels = "3 Zrotation" if number else "6 Xposition Yposition Zposition Zrotation"
        yield f"{indent}\tCHANNELS {channels} Xrotation Yrotation"
    for child, other in enumerate(joints):
        if other.parent == number:
            yield from _hierarchy_lines(joints, child, indent + "\t")
    yield indent + "}"


def _smooth_angles(rotations: torch.Tensor) -> Float64:
    """(T, N, 3, 3) rotations -> (T, N, 3) ZXY angles in degrees that go on from frame to frame without jumps.

    Each rotation has two triples, (z, x, y) and (z + 180, 180 - x, y + 180). Whether the nearer one is of the same
    kind as the frame before is known for each pair of frames alone, so a running count of the changes picks them.
    """
    first: Float64 = roma.rotmat_to_euler("ZXY", rotations, degrees=True).numpy()
    second = np.stack([first[..., 0] + 180, 180 - first[..., 1], first[..., 2] + 180], axis=-1)

    def distance(a: Float64, b: Float64) -> Float64:
        return np.abs((a - b + 180) % 360 - 180).sum(-1)

    changes = distance(first[:-1], second[1:]) < distance(first[:-1], first[1:])
    swapped = np.zeros(first.shape[:2], dtype=bool)
    swapped[1:] = np.cumsum(changes, axis=0) % 2 == 1
    chosen = np.where(swapped[..., None], second, first)
    unwrapped: Float64 = np.unwrap(chosen, axis=0, period=360)
    return unwrapped - 360 * np.round(unwrapped[:1] / 360)
