"""Acclaim ASF/AMC, the format of CMU's original distribution: the skeleton in one file, the motion in another.

Own code, because no package on PyPI reads the pair with its units, angles and errors; the kinematics are ours anyway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch

from motiongpt3.characters.bone_names import by_dialect, match
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import Reading, ReadOptions, in_chunks
from motiongpt3.motion.kinematics import forward
from motiongpt3.motion.motion import MAX_FRAMES, Motion
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import Float64
from motiongpt3.motion.upright import LEFT_OUT, find_upright, has_leading_t_pose
from motiongpt3.untrusted import read_text

CMU_FPS = 120.0
"""AMC files do not state their frame rate; CMU's (and HDM05's) are recorded at 120."""
MAX_BYTES = 64 * 2**20
"""CMU's longest files have a tenth of it."""
MAX_ASF_BYTES = 2**20
"""CMU's skeletons have 10,000 bytes."""
MAX_BONES = 500
"""CMU's skeletons have 31."""
_INCH = 0.0254
"""Metres; what the length unit of an ASF file divides."""


@dataclass
class AcclaimBone:
    """A bone of an ASF skeleton.

    Attributes:
        name: as in the file.
        parent: index of the parent, -1 for the root (bone 0, which has no length).
        vector: (3,) from the bone's start to its end in the rest pose; where the root is.
        axis: (3, 3) rest orientation of the frame its angles are about.
        dof: what each value of a frame is: rx, ry, rz, and for the root tx, ty, tz.
    """

    name: str
    parent: int
    vector: Float64
    axis: Float64
    dof: tuple[str, ...]


@dataclass
class AcclaimSkeleton:
    """An ASF skeleton: bones, parents first; its length scale, in units per inch; whether angles are in degrees."""

    bones: list[AcclaimBone]
    units_per_inch: float
    degrees: bool

    @property
    def metres_per_unit(self) -> float:
        """Metres that one unit of the files stands for."""
        return _INCH / self.units_per_inch


def read(path: Path, options: ReadOptions) -> Reading:
    """Read an AMC file and the ASF that belongs to it as the 22 joints.

    The ASF is looked for beside the AMC: the same name, then the subject's (09.asf for 09_01.amc), then the only
    .asf in the folder. A unit is 1 / (the ASF's length scale) inches. Joints get HumanML3D's bone lengths with every
    bone's direction kept. The frame rate is not in the file: CMU's 120 unless told.

    Raises:
        MotionGPT3Error: no ASF, a broken pair, unknown bone names.
    """
    asf = find_asf(path)
    skeleton = parse_asf(read_text(asf, MAX_ASF_BYTES), asf.name)
    values = parse_amc(read_text(path, MAX_BYTES), skeleton, path.name)
    names = [bone.name for bone in skeleton.bones]
    dialect = match(names)
    if dialect is None:
        raise MotionGPT3Error(f"{asf.name}: bones named {', '.join(names[:8])[:120]} … are not CMU's: give a BVH file")
    bones = by_dialect(dialect, names)
    sources = [names[node] for node in bones.nodes]
    joints = bones.assemble(bone_ends(skeleton, values, sources)) * skeleton.metres_per_unit
    if not (np.abs(joints) < 1e9).all():  # or not finite
        raise MotionGPT3Error(f"{path.name}: joint positions are too large to compute")
    still = {bone: np.zeros((1, *angles.shape[1:])) for bone, angles in values.items()}
    rest = bones.assemble(bone_ends(skeleton, still, sources))[0]
    stands = find_upright(joints, rest, options.up, options.unit, None)
    notes = list(stands.notes)
    if has_leading_t_pose(joints, rest):
        joints = joints[1:]
        notes.append(LEFT_OUT)
    if options.fps is None:
        notes.append(f"AMC files state no frame rate: CMU's {CMU_FPS:g} fps are taken; --fps-in says another")
    motion = Motion(to_skeleton(stands.turned(joints)), fps=options.fps or CMU_FPS, name=path.stem)
    return Reading(motion, tuple(notes), stands.doubts, bones.names, stands.facts)


def find_asf(amc: Path) -> Path:
    """The skeleton file that belongs to an AMC file; MotionGPT3Error names what was looked for."""
    subject = amc.stem.rpartition("_")[0]
    names = [f"{stem}{suffix}" for stem in (amc.stem, subject) if stem for suffix in (".asf", ".ASF")]
    for name in names:
        if (amc.parent / name).is_file():
            return amc.parent / name
    others = [file for file in sorted(amc.parent.iterdir()) if file.suffix.lower() == ".asf"]
    if len(others) == 1:
        return others[0]
    looked = " or ".join(dict.fromkeys(name.lower() for name in names))
    raise MotionGPT3Error(f"{amc.name} needs its skeleton: put {looked} (or a single .asf) in {amc.parent}")


def parse_asf(text: str, name: str) -> AcclaimSkeleton:
    """Parse the text of an ASF file; `name` is how errors call it."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in text.splitlines():
        words = re.sub(r"#.*", "", line).split()
        if words and words[0].startswith(":"):
            lines = sections.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            lines.append(words)
    if "bonedata" not in sections or "hierarchy" not in sections or "root" not in sections:
        raise MotionGPT3Error(f"{name} is not an ASF skeleton: it needs :root, :bonedata and :hierarchy")
    units = _fields(sections.get("units", []))
    scale = _floats(units.get("length", ["1"]), 1, f"{name}: length unit")[0]
    if scale <= 0:
        raise MotionGPT3Error(f"{name}: the length unit must be above 0, not {scale}")
    degrees = not units.get("angle", ["deg"])[0].lower().startswith("rad")

    found = {"root": _bone("root", _fields(sections["root"]), degrees, name)}
    blocks: list[list[list[str]]] = []
    for words in sections["bonedata"]:
        if words[0].lower() == "begin":
            blocks.append([])
        elif words[0].lower() != "end" and blocks:
            blocks[-1].append(words)
    for fields in map(_fields, blocks):
        label = " ".join(fields.get("name", []))
        if not label or label in found:
            raise MotionGPT3Error(f"{name}: bone {label[:60]!r} {'appears twice' if label else 'has no name'}")
        found[label] = _bone(label, fields, degrees, name)
        if len(found) > MAX_BONES:
            raise MotionGPT3Error(f"{name} has more than {MAX_BONES} bones")

    place = {"root": 0}
    for parent, *children in sections["hierarchy"]:
        for child in children if parent.lower() not in ("begin", "end") else []:
            if parent not in place or child not in found or child in place:
                raise MotionGPT3Error(f"{name}: the hierarchy's {parent[:40]} -> {child[:40]} is unknown or a cycle")
            found[child].parent = place[parent]
            place[child] = len(place)
    return AcclaimSkeleton([found[label] for label in place], scale, degrees)


def _bone(label: str, fields: dict[str, list[str]], degrees: bool, name: str) -> AcclaimBone:
    where = f"{name}: bone {label[:60]!r}"
    is_root = label == "root"
    dof = tuple(word.lower() for word in fields.get("order" if is_root else "dof", []))
    if not set(dof) <= {"rx", "ry", "rz", *(("tx", "ty", "tz") if is_root else ())} or len(set(dof)) != len(dof):
        raise MotionGPT3Error(f"{where} has impossible degrees of freedom: {' '.join(dof)[:60]}")
    if is_root:
        vector = np.array(_floats(fields.get("position", ["0"] * 3), 3, where))
        order = (fields.get("axis") or ["XYZ"])[0]
        angles = _floats(fields.get("orientation", ["0"] * 3), 3, where)
    else:
        direction = np.array(_floats(fields.get("direction", []), 3, where))
        norm = np.linalg.norm(direction)
        vector = direction / (norm if norm > 0 else 1) * _floats(fields.get("length", []), 1, where)[0]
        axis = fields.get("axis", [*["0"] * 3, "XYZ"])
        order, angles = (axis[3] if len(axis) > 3 else "XYZ"), _floats(axis, 3, where)
    if sorted(order.lower()) != ["x", "y", "z"]:
        raise MotionGPT3Error(f"{where} has an axis order {order[:20]!r}; XYZ in some order is expected")
    turned = roma.euler_to_rotmat(order.lower(), torch.tensor(angles, dtype=torch.float64), degrees=degrees)
    return AcclaimBone(label, -1, vector, turned.numpy(), dof)


def _fields(lines: list[list[str]]) -> dict[str, list[str]]:
    return {line[0].lower(): line[1:] for line in lines}


def _floats(words: list[str], count: int, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in words[:count]]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e6 for number in numbers):
        raise MotionGPT3Error(f"{where} needs {count} numbers, not {' '.join(words)[:60]!r}")
    return numbers


def parse_amc(text: str, skeleton: AcclaimSkeleton, name: str) -> dict[str, Float64]:
    """The values of each bone over time, {bone: (T, dof)}; bones without freedom are absent."""
    moving = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    rows: dict[str, list[list[str]]] = {bone: [] for bone in moving}
    frames = 0

    def check_complete() -> None:
        for bone, numbers in rows.items():
            if len(numbers) != frames:
                raise MotionGPT3Error(f"{name}: frame {frames} has no values for {bone[:40]}")

    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0][0] in "#:":
            if words and words[0].upper() == ":RADIANS":
                skeleton.degrees = False
        elif len(words) == 1 and words[0].isdecimal():
            check_complete()
            frames += 1
            if frames > MAX_FRAMES:
                raise MotionGPT3Error(f"{name} has more than {MAX_FRAMES} frames")
        elif words[0] not in moving or len(words) - 1 != moving[words[0]] or len(rows[words[0]]) != frames - 1:
            what = f"{words[0][:40]} with {len(words) - 1} values"
            raise MotionGPT3Error(f"{name}, line {number}: {what} does not fit its ASF; is it another subject's?")
        else:
            rows[words[0]].append(words[1:])
    check_complete()
    if not frames:
        raise MotionGPT3Error(f"{name} has no frames")
    try:
        values = {bone: np.array(numbers, dtype=np.float64) for bone, numbers in rows.items()}
    except ValueError as error:
        raise MotionGPT3Error(f"{name}: {str(error)[:100]}") from None
    if not all((np.abs(numbers) < 1e9).all() for numbers in values.values()):
        raise MotionGPT3Error(f"{name} contains NaN, infinite or impossibly large values")
    return values


def bone_ends(skeleton: AcclaimSkeleton, values: dict[str, Float64], names: list[str] | None = None) -> Float64:
    """(T, N, 3) ends of the named bones, or of all, in file units; the root's end is the root."""
    index = {bone.name: i for i, bone in enumerate(skeleton.bones)}
    wanted = [index[name] for name in names or index]

    def posed(frames: slice) -> Float64:
        return _ends(skeleton, {bone: rows[frames] for bone, rows in values.items()})[:, wanted]

    return in_chunks(posed, len(next(iter(values.values()))))


def _ends(skeleton: AcclaimSkeleton, values: dict[str, Float64]) -> Float64:
    """(T, N, 3) ends of all bones. A bone turns about its own axis frame, and goes along with its parent."""
    bones, frames = skeleton.bones, len(next(iter(values.values())))
    rotations = torch.eye(3, dtype=torch.float64).repeat(frames, len(bones), 1, 1)
    for i, bone in enumerate(bones):
        turns = [k for k, freedom in enumerate(bone.dof) if freedom[0] == "r"]
        if turns:
            order, angles = "".join(bone.dof[k][1] for k in turns), torch.from_numpy(values[bone.name][:, turns])
            rotations[:, i] = roma.euler_to_rotmat(order, angles, degrees=skeleton.degrees)
        axis = torch.from_numpy(bone.axis)
        rotations[:, i] = axis @ rotations[:, i] @ axis.T
    root = np.tile(bones[0].vector, (frames, 1))
    for k, freedom in enumerate(bones[0].dof):
        if freedom[0] == "t":
            root[:, "xyz".index(freedom[1])] += values["root"][:, k]
    vectors = torch.from_numpy(np.stack([bone.vector for bone in bones]))
    return forward(rotations, vectors, torch.from_numpy(root), [bone.parent for bone in bones]).numpy()
