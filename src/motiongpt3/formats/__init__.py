"""Motion files: `read`, `load` and `save` by suffix. Importing this is cheap; a format's module loads when it is used.

A further format is a module here with `read(path, options) -> Reading` or `write(motion, path)`, and a line in a table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion, check_fps
from motiongpt3.motion.upright import Unit, Up

if TYPE_CHECKING:
    from motiongpt3.motion.skeleton import Float64
    from motiongpt3.render.canvas import Body

BvhDialect = Literal["ours", "mixamo", "cmu"]
"""The hierarchies in which BVH files are written: ours, Mixamo's and that of CMU's conversions (cgspeed)."""
MAX_BYTES = 2**30
"""Larger files are refused: an hour of motion capture as text is smaller."""

NPY_FPS = 20.0
"""HumanML3D's frame rate, at which .npy files are written and read."""

_READERS = {
    ".npz": "npz.read",  # .smpl.npz and AMASS, too: it knows such files by their arrays
    ".npy": "npz.read_humanml3d",
    ".bvh": "bvh.read",
    ".amc": "asf_amc.read",
    ".glb": "glb.read",
}
_WRITERS = {
    ".npz": "npz.write",
    ".smpl.npz": "smpl.write",
    ".npy": "npz.write_humanml3d",
    ".bvh": "bvh.write",
    ".glb": "glb.write",
    ".mp4": "video.write",
    ".gif": "video.write",
    ".png": "png.write",
}
"""{suffix: module.function}."""
_BY_BLENDER = (
    'Blender makes a GLB of it: blender -b --python-expr "import bpy; '
    "bpy.ops.wm.read_factory_settings(use_empty=True); bpy.ops.{}(filepath='IN'); "
    "bpy.ops.export_scene.gltf(filepath='OUT.glb')\""
)
WAYS_ON = {
    ".asf": "it is a skeleton without motion; give the .amc file that goes with it",
    ".fbx": _BY_BLENDER.format("import_scene.fbx"),
    ".dae": _BY_BLENDER.format("wm.collada_import"),
    **dict.fromkeys((".usd", ".usda", ".usdc", ".usdz"), _BY_BLENDER.format("wm.usd_import")),
    ".c3d": "it holds markers, not joints: solve a skeleton from them (MotionBuilder, Mokka, MoSh++) and give its BVH",
    ".trc": "it holds markers, not joints: solve a skeleton from them (OpenSim, Pose2Sim) and give its BVH",
    ".mot": "it holds joint angles of an OpenSim model: give a BVH of the model's motion",
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth"),
        "such files can run code: open it where you trust it, and save the joints, (frames, 22, 3), with numpy.save",
    ),
    ".h5": "save its joints, (frames, 22, 3), with numpy.save",
    ".csv": "save its joints, (frames, 22, 3), with numpy.save",
    ".json": "save its joints, (frames, 22, 3), with numpy.save",
}
"""{suffix: what makes a readable file of it}."""


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a file; what is left out is found out.

    Attributes:
        up: the axis of the file that points up.
        unit: the unit of its positions.
        fps: frames per second at which it was recorded, whatever it says itself.
        bones: {our joint: its name in the file} for joints that are not found by themselves.
        animation: which one of several is read: its name, or its number from 1.

    Raises:
        MotionGPT3Error: an axis or a unit that is none, or fps is not from MIN_FPS to 1000.
    """

    up: Up = "auto"
    unit: Unit = "auto"
    fps: float | None = None
    bones: Mapping[str, str] | None = None
    animation: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("up", self.up, get_args(Up)), ("unit", self.unit, get_args(Unit))):
            if value not in known:
                raise MotionGPT3Error(f"{name} is one of {', '.join(known)}, not {str(value)[:40]!r}")
        if self.fps is not None:
            check_fps(self.fps)


@dataclass(frozen=True)
class Reading:
    """A motion as it was read, and how.

    Attributes:
        motion: the motion.
        notes: what was decided or mended, one plain line each.
        doubts: what may be otherwise, one plain line each, with the option that overrules it.
        bones: {our joint: its name in the file}; empty where the file names no joints.
        facts: what else there is to say of the file: its axes, unit, animations.
    """

    motion: Motion
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    bones: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class ReadingWarning(UserWarning):
    """Something in a file could be meant otherwise than it was read."""


def load(path: str | Path, **options: Any) -> Motion:
    """Read a motion file; the suffix tells the format (`readable_suffixes`).

    The motion keeps the file's frame rate. Skeletons other than ours (BVH of CMU, Bandai-Namco, Mixamo; characters in
    GLB; AMC; AMASS) get HumanML3D's bone lengths; `.npz`, `.npy`, BVH and GLB files of ours come back as they were
    written. What is doubtful about the file is a `ReadingWarning`; `read` tells how it was read.

    Args:
        path: the file.
        options: those of `ReadOptions`.

    Raises:
        MotionGPT3Error: an unknown suffix, a missing, empty, too large or damaged file.
    """
    reading = read(path, ReadOptions(**options))
    for doubt in reading.doubts:
        warnings.warn(f"{Path(path).name}: {doubt}", ReadingWarning, stacklevel=2)
    return reading.motion


def read(path: str | Path, options: ReadOptions | None = None) -> Reading:
    """Read a motion file as `load` does, and tell how it was read.

    Raises:
        MotionGPT3Error: as `load`.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if suffix not in _READERS:
        way_on = WAYS_ON.get(suffix, f"readable are {', '.join(_READERS)}")
        raise MotionGPT3Error(f"cannot read {suffix or 'a file without suffix'}: {source}; {way_on}")
    try:
        if source.is_dir():
            raise MotionGPT3Error(f"{source} is a folder; give a file")
        size = source.stat().st_size
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {source}: {error.strerror or error}") from None
    except ValueError as error:
        raise MotionGPT3Error(f"cannot read {str(source)[:200]!r}: {error}") from None
    if not size:
        raise MotionGPT3Error(f"{source} is empty")
    if size > MAX_BYTES:
        raise MotionGPT3Error(f"{source} has {size / 2**30:.1f} GB; files over {MAX_BYTES / 2**30:.0f} GB are refused")
    reading: Reading = _function(_READERS[suffix])(source, options or ReadOptions())
    return reading


def save(motion: Motion, path: str | Path, bvh_dialect: BvhDialect = "ours", body: Body = "capsules") -> Path:
    """Write a motion; the suffix decides the format (`writable_suffixes`). Returns the path.

    A reader sees the old file or the new one, never half of it. An .npy file gets 20 frames per second (`as_written`).

    Args:
        motion: what to write.
        path: where; its folder has to be there.
        body: who is drawn in films and pictures: capsules, or the mannequin of the GLB files.
        bvh_dialect: names and hierarchy of a BVH file, see `motiongpt3.formats.bvh.write`.

    Raises:
        MotionGPT3Error: an unknown suffix, or the file cannot be written.
    """
    target = Path(path)
    suffix = suffix_of(target)
    check_writable(target)
    if target.is_dir():
        raise MotionGPT3Error(f"{target} is a folder; give a file name")
    drawn = suffix in (".mp4", ".gif", ".png")
    options = {"body": body} if drawn else {"dialect": bvh_dialect} if suffix == ".bvh" else {}
    _function(_WRITERS[suffix])(motion, target, **options)
    return target


def as_written(motion: Motion, path: str | Path) -> Motion:
    """What a file holds of a motion: an .npy file, which states no rate, has 20 frames per second."""
    if Path(path).suffix.lower() != ".npy" or motion.fps == NPY_FPS:
        return motion
    from motiongpt3.motion.resample import resampled

    return resampled(motion, NPY_FPS)


def check_writable(path: Path) -> None:
    """MotionGPT3Error for a file whose format cannot be written, with what writes it where that is known."""
    if suffix_of(path) not in _WRITERS:
        way_on = f"writable are {', '.join(_WRITERS)}"
        if path.suffix.lower() == ".fbx":
            way_on = f"`motiongpt3 export MOTION --fbx {path.name}` does it with Blender"
        raise MotionGPT3Error(f"cannot write {path.suffix or 'a file without suffix'}: {path}; {way_on}")


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, in lower case; of two where these are known together (.smpl.npz)."""
    two = "".join(path.suffixes[-2:]).lower()
    return two if two in _WRITERS else path.suffix.lower()


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes that `load` knows."""
    return tuple(_READERS)


def writable_suffixes() -> tuple[str, ...]:
    """Suffixes that `save` knows."""
    return tuple(_WRITERS)


def snap_fps(fps: float) -> float:
    """The whole number of frames per second that a rounded frame time such as 0.0083333 stands for."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps


def in_chunks(posed: Callable[[slice], Float64], frames: int) -> Float64:
    """(T, N, 3) places by a function of some frames; in parts, so that a long file does not fill the memory."""
    size = 2048  # frames: 100 joints with their rotations have 20 MB
    return np.concatenate([posed(slice(start, start + size)) for start in range(0, frames, size)])


def _function(name: str) -> Any:
    module, function = name.split(".")
    return getattr(import_module(f"motiongpt3.formats.{module}"), function)
