"""What commands share: groups of options as dataclasses, and what reads and writes files for them."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import ReadOptions, check_writable
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.request import DrawOptions
from motiongpt3.motion.upright import Unit, Up

if TYPE_CHECKING:
    from motiongpt3.control.constraints import AnyConstraint
    from motiongpt3.formats import Reading
    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.models.motiongpt3 import MotionGPT3
    from motiongpt3.motion.motion import Motion
    from motiongpt3.motion.postprocess import Changes


# ------------------------------------------------------------------------------------------- what parameters can be

FileArg = Annotated[str, Arg("FILE")]
FolderArg = Annotated[str, Arg("FOLDER")]
PackedArg = Annotated[str, Arg("PACKED")]
PromptArg = Annotated[str, Arg("PROMPT")]
OutArg = Annotated[str, Arg("FILE", flags="-o --out")]
SecondsArg = Annotated[float, Arg("S", PositiveFloat)]
CountArg = Annotated[int, Arg("N", PositiveInt)]
SeedArg = Annotated[int, Arg("N", NonNegativeInt)]
GuidanceArg = Annotated[float, Arg("G", NonNegativeFloat)]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class DrawArguments(DrawOptions):
    """`DrawOptions` as a command takes them."""

    seed: SeedArg = 0
    """same seed, same motion"""
    guidance: GuidanceArg | None = None
    """how strictly to follow the words: 1 is plain, more is stricter and less varied; the model's own default if left
    out"""
    steps: CountArg | None = None
    """sampling steps; the model's own default if left out"""


@dataclass(frozen=True)
class ModelOptions:
    """Which model is used, and where."""

    model: Annotated[str | None, Arg("MODEL")] = None
    """a folder or a hub id; the model of this package if left out"""
    profile: Literal["default", "official"] | None = None
    """of a converted official checkpoint: its own prompts and sampler, or faster ones; as stored if left out"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where to compute"""

    @property
    def name(self) -> str:
        """For people."""
        return "mini" if self.model is None else Path(self.model).name

    def folder(self) -> Path:
        """Where it is on this disk; one of the hub is downloaded."""
        from motiongpt3.models.motiongpt3 import EMBEDDED, download

        folder = EMBEDDED if self.model is None else Path(self.model)
        return folder if self.model is None or folder.is_dir() else download(self.model)

    def settings(self) -> MotionGPT3Config:
        """Its configuration, by which much can be refused before its weights are loaded."""
        from motiongpt3.models.motiongpt3 import read_settings

        return read_settings(self.folder(), self.profile)[0]

    def load(self) -> MotionGPT3:
        """The model itself.

        Raises:
            MotionGPT3Error: there is none or it is damaged, or no CUDA device is there.
        """
        import torch

        from motiongpt3.models.motiongpt3 import MotionGPT3

        if self.device == "cuda" and not torch.cuda.is_available():
            raise MotionGPT3Error("this PyTorch sees no CUDA device; use --device cpu")
        return MotionGPT3.from_pretrained(self.model, device=self.device, profile=self.profile)


@dataclass(frozen=True)
class OutputOptions:
    """Where made motions go."""

    out: Annotated[list[str], Arg("FILE", flags="-o --out", repeat=True)]
    """file to write; its suffix decides the format ({writable}); may be repeated"""
    json: bool = False
    """print what was written as JSON"""

    def files(self) -> AbstractContextManager[list[Path]]:
        """See `output_files`; MotionGPT3Error for a format that cannot be written, too."""
        return output_files(*(writable(file) for file in self.out))


@dataclass(frozen=True)
class ConstraintOptions:
    """What is held in motions that are made."""

    constraints: FileArg | None = None
    """JSON file of what is held: paths, poses, hands, feet (Kimodo's constraints.json, or MMCP's array)"""
    constraints_fps: Annotated[float | None, Arg("F", PositiveFloat)] = None
    """frames per second of that file's frame numbers; as it says, or 20, if left out"""
    best_effort: bool = False
    """meet what can be met of the constraints and report the rest, instead of refusing it"""
    report: FileArg | None = None
    """JSON file to write: how far off each constraint was, and what it cost"""

    def read(self) -> list[AnyConstraint]:
        """The constraints in the file, none without one.

        Raises:
            MotionGPT3Error: the file cannot be read, or an option makes no sense without one.
        """
        if self.constraints is None:
            if self.report or self.best_effort or self.constraints_fps:
                raise MotionGPT3Error("--report, --best-effort and --constraints-fps are for --constraints FILE")
            return []
        from motiongpt3.control.files import load

        return load(self.constraints, self.constraints_fps)


@dataclass(frozen=True)
class RecordingOptions:
    """What is told of motion files that are read, as `motiongpt3.formats.ReadOptions`."""

    up: Up = "auto"
    """the axis of the file that points up; auto finds it from the figure"""
    unit: Unit = "auto"
    """the file's unit of length; auto finds it from the figure"""
    fps_in: Annotated[float | None, Arg("F", PositiveFloat)] = None
    """frames per second at which the file was recorded, whatever it says itself"""
    animation: Annotated[str | None, Arg("NAME|N")] = None
    """which animation of a file that holds several: its name, or its number from 1"""

    def read(self, file: str | Path) -> Reading:
        """The motion in a file and how it was read, which is told on stderr.

        Raises:
            MotionGPT3Error: as `motiongpt3.formats.read`.
        """
        from motiongpt3.formats import read

        reading = read(file, self.options())
        for note in (*reading.notes, *reading.doubts):
            print(f"note: {Path(file).name}: {note}", file=sys.stderr)
        return reading

    def load(self, file: str | Path) -> Motion:
        """The motion alone."""
        return self.read(file).motion

    def options(self) -> ReadOptions:
        """What the readers take; MotionGPT3Error where it is none."""
        return ReadOptions(self.up, self.unit, self.fps_in, None, self.animation)


@dataclass(frozen=True)
class ReadingOptions(RecordingOptions):
    """The same, with names for joints that are not found by themselves."""

    bones: Annotated[str | None, Arg("YAML")] = None
    """which joint of the file is which of ours, lines of JOINT: NAME, where it is not found by itself"""

    def options(self) -> ReadOptions:
        """What the readers take; MotionGPT3Error where it is none."""
        from motiongpt3.characters.bone_names import load_map

        return replace(super().options(), bones=load_map(Path(self.bones)) if self.bones else None)


@dataclass(frozen=True)
class FileOptions:
    """How some formats are written."""

    bvh_dialect: Literal["ours", "mixamo", "cmu"] = "ours"
    """names and joints of BVH files; ours loses nothing, the others are what tools for Mixamo or CMU expect"""
    body: Literal["capsules", "mannequin"] = "capsules"
    """who is drawn in films and pictures; the mannequin is that of GLB files"""


@dataclass(frozen=True)
class CutOptions:
    """What is made of a motion before it is finished, in this order."""

    trim: Annotated[str | None, Arg("A:B")] = None
    """only the seconds from A to B; either may be left out"""
    speed: Annotated[float | None, Arg("X", PositiveFloat)] = None
    """how many times as fast; the frame rate stays"""
    mirror: bool = False
    """left and right swapped, in the caption too"""
    ground: bool = False
    """moved up or down until the lowest joint is on the floor"""

    def apply(self, motion: Motion) -> Motion:
        """The motion as asked; itself if nothing is.

        Raises:
            MotionGPT3Error: a part that is none, or a speed that no frame rate can have.
        """
        if self.trim is not None:
            motion = _trimmed(motion, self.trim)
        if self.speed is not None:
            from motiongpt3.motion.resample import resampled

            motion = resampled(motion.replace(fps=motion.fps * self.speed), motion.fps)
        motion = motion.mirror() if self.mirror else motion
        return motion.replace(joints=motion.joints - [0, motion.joints[..., 1].min(), 0]) if self.ground else motion


def _trimmed(motion: Motion, part: str) -> Motion:
    """The frames of "A:B" seconds."""
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)?\s*:\s*(\d+\.?\d*|\.\d+)?\s*", part)
    if not found or found[1] == found[2]:
        raise MotionGPT3Error(f"--trim is A:B in seconds, such as 1.5:4 or :4, not {part[:40]!r}")
    start, end = float(found[1] or 0), float(found[2] or motion.seconds)
    frames = motion.joints[round(min(start, 1e6) * motion.fps) : round(min(end, 1e6) * motion.fps)]
    if not len(frames):
        raise MotionGPT3Error(f"--trim {part.strip()}: no frame of these {motion.seconds:.2f} s lies in it")
    return motion.replace(joints=frames)


@dataclass(frozen=True)
class PostprocessOptions:
    """What makes a motion ready for use; numbers out of range are refused here, before anything is drawn."""

    fix_feet: bool = False
    """hold standing feet in their places on the floor"""
    in_place: bool = False
    """stay on the spot: take away the way, keep the steps"""
    loop: bool = False
    """cut out a seamless cycle; its last pose is its first"""
    fps: Annotated[float | None, Arg("F", PositiveFloat)] = None
    """frames per second of what is written"""
    smooth: SecondsArg | None = None
    """average joints over S seconds; 0.2 takes away a tremor"""

    def __post_init__(self) -> None:
        if self:
            from motiongpt3.motion.postprocess import check_options

            check_options(self.fps, self.smooth)

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def apply(self, motion: Motion) -> Motion:
        """The motion finished as asked; itself if nothing is."""
        if not self:
            return motion
        from motiongpt3.motion.postprocess import postprocess

        return postprocess(motion, **asdict(self))

    def changes(self, before: Sequence[Motion], after: Sequence[Motion]) -> dict[str, Changes]:
        """`{"finish": measures before and after}` for a report, each a mean; empty if nothing was asked for."""
        if not self:
            return {}
        from motiongpt3.motion.postprocess import changes

        return {"finish": changes(before, after)}

    def table(self, changed: dict[str, Changes]) -> list[str]:
        """What `changes` found, for people; nothing if that is nothing."""
        if not changed:
            return []
        from motiongpt3.motion.postprocess import UNITS

        rows: Any = [(f"{name} ({UNITS[name]})", *both.values()) for name, both in changed["finish"].items()]
        return [table(["", "before", "after"], rows)]


@dataclass(frozen=True)
class DrawingOptions:
    """What every command that draws motions and writes them takes."""

    draw: DrawArguments
    files: FileOptions
    postprocess: PostprocessOptions
    model: ModelOptions


# -------------------------------------------------------------------------------------------------- input and output


_FILE_NAME = re.compile(
    r"\S+\.(?:csv|tsv|txt|jsonl?|ya?ml|xlsx?|bvh|glb|gltf|np[yz]|fbx|mp4|gif|png|amc)", re.IGNORECASE
)
"""What is no sentence but the name of a file, there or not."""


def check_prompts(prompts: Sequence[str]) -> None:
    """MotionGPT3Error for a prompt that is empty, endless, not text, or a file."""
    for prompt in prompts:
        if _FILE_NAME.fullmatch(prompt) or (len(prompt) < 255 and "\0" not in prompt and Path(prompt).is_file()):
            raise MotionGPT3Error(
                f"{prompt[:80]!r} is a file, not a prompt: give what it says, a sentence in quotes each, such as "
                '"a person walks" "a person sits down"'
            )
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise MotionGPT3Error(f"the prompt {prompt[:40]!r} is not valid UTF-8 text")
        clean_prompt(prompt)


def writable(out: str) -> Path:
    """The path; MotionGPT3Error if its format cannot be written."""
    check_writable(Path(out))
    return Path(out)


@contextmanager
def output_files(*files: Path | str | None) -> Iterator[list[Path]]:
    """Paths of files that can be written, which is checked before the work that makes them; None stands for no file.

    A missing folder is made if the one above it exists, and removed again if nothing was written into it.

    Raises:
        MotionGPT3Error: a file is given twice, is a folder or has too long a name, or its folder cannot be written.
    """
    made: list[Path] = []
    paths = [Path(file) for file in files if file is not None]
    try:
        for path in paths:
            if paths.count(path) > 1:
                raise MotionGPT3Error(f"{path} is given twice")
            if path.is_dir():
                raise MotionGPT3Error(f"{path} is a folder; give a file name")
            if len(os.fsencode(path.name)) > 200:
                raise MotionGPT3Error(f"the file name {path.name[:30]}… is too long")
            folder = path.parent
            try:
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise MotionGPT3Error(f"cannot write to the folder {folder}: {reason}") from None
        yield paths
    finally:
        for folder in made:
            if sys.exc_info()[0] is not None and not any(folder.iterdir()):
                folder.rmdir()


def written_entry(file: str | Path, motion: Motion) -> dict[str, Any]:
    """File, frames, seconds and rate of a motion that was written; what the format changed is told on stderr."""
    from motiongpt3.formats import as_written

    kept = as_written(motion, file)
    if kept is not motion:
        told = f"npy files state no frame rate: resampled from {motion.fps:g} to {kept.fps:g} fps"
        print(f"note: {Path(file).name}: {told}", file=sys.stderr)
    return {"file": str(file), "frames": len(kept), "seconds": kept.seconds, "fps": kept.fps}


def write_json(file: str | Path, content: Any, indent: int = 2) -> None:
    """A file with JSON and a line's end, there as a whole or not at all."""
    from motiongpt3.serialization import atomic_path  # brings PyTorch, without which the help gets along

    with atomic_path(file) as temporary:
        temporary.write_text(dumps(content, indent=indent) + "\n", encoding="utf-8")


def bar(doing: str, unit: str) -> Callable[[Sequence[Any]], Iterator[Any]]:
    """What shows the progress through a list: a bar, or a line now and then where stderr is no terminal."""

    def through(items: Sequence[Any]) -> Iterator[Any]:
        said = time.monotonic()
        for number, item in enumerate(tqdm(items, doing, unit=unit, disable=None)):
            if time.monotonic() - said > LINE_SECONDS and not sys.stderr.isatty():
                said = time.monotonic()
                print(f"motiongpt3: {doing}: {number} of {len(items)}", file=sys.stderr, flush=True)
            yield item

    return through


LINE_SECONDS = 10
"""Between two lines that tell how far something is: short work says nothing in a log, long work not much."""


def table(head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """Columns as wide as they need to be: the first to the left, the others to the right; numbers with 3 digits."""
    cells = [list(head), *([cell if isinstance(cell, str) else f"{cell:.3f}" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells)
    return "\n".join("  ".join([row[0].ljust(widths[0]), *line[1:]]) for row, line in zip(cells, lines, strict=True))


def tell(json: bool, facts: Any, *lines: str) -> None:
    """Print what a command found: facts as JSON for programs, or lines for people."""
    print(dumps(facts, indent=2) if json else "\n".join(lines))
