"""Motion files: `load` and `save` by suffix. Importing this is cheap; a format's module loads when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.formats.bvh import BvhDialect
    from motiongpt3.render.canvas import Body

MAX_BYTES = 2**30
"""Larger files are refused: an hour of motion capture as text is smaller."""


@dataclass(frozen=True)
class _Format:
    """The module with `read(path)` and `write(motion, path)`, and which of the two it has."""

    module: str
    read: str = "read"
    write: str = "write"
    reads: bool = True
    writes: bool = True


_FORMATS = {
    ".npz": _Format("npz"),
    ".smpl.npz": _Format("smpl", reads=False),  # Reading goes by .npz, which knows such files by their arrays.
    ".npy": _Format("npz", read="read_humanml3d", write="write_humanml3d"),
    ".bvh": _Format("bvh"),
    ".amc": _Format("asf_amc", writes=False),
    ".glb": _Format("glb"),
    ".mp4": _Format("video", reads=False),
    ".gif": _Format("video", reads=False),
    ".png": _Format("png", reads=False),
}
_DRAWN = (".mp4", ".gif", ".png")


def load(path: str | Path) -> Motion:
    """Read a motion file; the suffix tells the format (`readable_suffixes`).

    The motion keeps the file's frame rate. Skeletons other than ours (BVH of CMU, Bandai-Namco, Mixamo; characters in
    GLB; AMC; AMASS) get HumanML3D's bone lengths; `.npz`, `.npy`, BVH and GLB files of ours come back as they were
    written.

    Raises:
        MotionGPT3Error: an unknown suffix, a missing, empty, too large or damaged file.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if suffix == ".asf":
        raise MotionGPT3Error(f"{source.name} is a skeleton without motion; give the .amc file that goes with it")
    form = _FORMATS.get(suffix)
    if form is None or not form.reads:
        raise MotionGPT3Error(f"cannot read {suffix or 'a file without suffix'}: {source}; {_known('readable')}")
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
    motion: Motion = getattr(import_module(f"motiongpt3.formats.{form.module}"), form.read)(source)
    return motion


def save(motion: Motion, path: str | Path, bvh_dialect: BvhDialect = "ours", body: Body = "capsules") -> Path:
    """Write a motion; the suffix decides the format (`writable_suffixes`). Returns the path.

    A reader sees the old file or the new one, never half of it.

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
    form = _FORMATS.get(suffix)
    if form is None or not form.writes:
        raise MotionGPT3Error(
            f"cannot write {target.suffix or 'a file without suffix'}: {target}; {_known('writable')}"
        )
    if target.is_dir():
        raise MotionGPT3Error(f"{target} is a folder; give a file name")
    options: dict[str, str] = {"dialect": bvh_dialect} if suffix == ".bvh" else {}
    if suffix in _DRAWN:
        options = {"body": body}
    getattr(import_module(f"motiongpt3.formats.{form.module}"), form.write)(motion, target, **options)
    return target


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, in lower case; of two where these are known together (.smpl.npz)."""
    two = "".join(path.suffixes[-2:]).lower()
    return two if two in _FORMATS else path.suffix.lower()


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes that `load` knows."""
    return tuple(suffix for suffix, form in _FORMATS.items() if form.reads)


def writable_suffixes() -> tuple[str, ...]:
    """Suffixes that `save` knows."""
    return tuple(suffix for suffix, form in _FORMATS.items() if form.writes)


def _known(what: str) -> str:
    return f"{what} are {', '.join(readable_suffixes() if what == 'readable' else writable_suffixes())}"
