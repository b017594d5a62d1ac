"""How typed functions become commands, and what commands share.

A command is a function: its positional parameters are words in their places, its keyword-only ones are options, and a
dataclass among these gives each of its fields as an option. Help comes from the docstrings: of the function what it
does, its `Args` and its `Examples`; of a dataclass what stands below each field. The annotation says what is taken;
`Annotated[int, Arg("N", PositiveInt)]` adds what stands for it in the help, and what it must be.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from json import dumps
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import ReadOptions, check_writable, readable_suffixes, writable_suffixes
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


set_parsing_settings(docstring_parse_attribute_docstrings=True)

# ------------------------------------------------------------------------------------------- a parser and its errors

KINDS = {
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number, 0 or more",
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number, 0 or more",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list such as '[a, b]'",
    "list[str]": "a list such as '[a, b]'",
    "NoneType": "null",
}
"""Types of the parser, in words."""


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Defaults where there are some; types only for what comes from a configuration class."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.metavar is None and action.nargs != 0:
            return super()._get_help_string(action)
        if action.default in (None, False, argparse.SUPPRESS) or not action.option_strings or action.nargs == 0:
            return action.help or ""
        return f"{action.help} (default: {action.default})"


class Parser(ArgumentParser):
    """A jsonargparse parser whose errors are MotionGPT3Error with one line.

    Args:
        name: the command.
        description: what it does.
        examples: shown at the end of its help, a line each.
    """

    def __init__(self, name: str, description: str, examples: str = "") -> None:
        super().__init__(
            prog=f"motiongpt3 {name}",
            description=textwrap.fill(description, 100),
            epilog="examples:\n" + examples.strip("\n") if examples else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise MotionGPT3Error with the message in one line."""
        text = " ".join(message.split())
        if found := re.match(r"(?:the following arguments are|.*?) required: (.*)", text):
            names = {action.dest: next(iter(action.option_strings), str(action.metavar)) for action in self._actions}
            text = "missing: " + ", ".join(names.get(name, f"--{name}") for name in found[1].split(", "))
        text = re.sub(r'^Parser key "([^"]+)":', r"--\1:", text)
        text = re.sub(
            r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .*? Given value: (.*)",
            lambda found: f"needs {_in_words(found[1])}, not {found[2]}",
            text,
        )
        text = re.sub(r"Not of type (\w+):.*?('.*'|\S+)(?: does not conform.*)?$", _needs, text)
        text = re.sub(r"Expected an? (.*)\. Got value: (.*)", _needs, text)
        raise MotionGPT3Error(f"{text} (see {self.prog} --help)")


def _needs(found: re.Match[str]) -> str:
    return f"needs {_in_words(found[1])}, not {found[2]}"


def _in_words(kinds: str) -> str:
    """Names of types as words: "<class 'int'>, typing.Literal['all']" -> "a whole number or 'all'"."""
    kinds = re.sub(r"<class '([^']+)'>", r"\1", kinds)
    kinds = re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", r"\1", kinds)
    names = [name for name in kinds.split(", ") if name != "NoneType"]
    return " or ".join(KINDS.get(name, name) for name in names)


# ------------------------------------------------------------------------------------------------ functions as commands


class Arg(NamedTuple):
    """What an annotation says of a parameter besides its type."""

    metavar: str | tuple[str, ...]
    """Stands for the value in the help; one for each value of a tuple."""
    check: Any = None
    """A stricter type, whose errors `Parser` puts in words."""
    flags: str = ""
    """Names of the option, where they are not that of the parameter: "-o --out"."""
    repeat: bool = False
    """Whether each value has the option's name before it: -o a -o b."""


def run_command(function: Callable[..., int | None], name: str, argv: Sequence[str]) -> int:
    """Call a typed function with what the words after `motiongpt3 NAME` say; see the top of this file.

    Returns:
        What the function returns; 0 if that is nothing.

    Raises:
        MotionGPT3Error: for words that do not fit.
    """
    text, _, examples = (inspect.getdoc(function) or "").partition("\nExamples:\n")
    doc = docstring_parser.parse(text)
    parser, told = Parser(name, _one_line(doc.description), examples), _told(doc)
    hints = get_type_hints(function, include_extras=True)
    for at, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[at]):
            _add_fields(parser, hints[at], told)
        else:
            placed = parameter.kind is not parameter.KEYWORD_ONLY
            _add_argument(parser, at, hints[at], parameter.default, told[at], placed)
    hints.pop("return")
    return function(**_values(hints, parser.parse_args(argv))) or 0


def _add_fields(parser: Parser, kind: Any, told: dict[str, str]) -> None:
    """The fields of a dataclass as options, with its own help where `told` has none; fields of a field, too."""
    below: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(kind.__mro__)):  # a field inherited is told where it was declared
        below |= _told(docstring_parser.parse_from_object(base))
    below |= told
    for name, (hint, default) in _fields(kind).items():
        if is_dataclass(hint):
            _add_fields(parser, hint, told)
        else:
            _add_argument(parser, name, hint, default, below[name])


def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Types and defaults of the fields that words can give: not of the function that shows progress."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], field.default) for field in fields(kind) if not callable(field.default)}


def _values(hints: Mapping[str, Any], options: Namespace) -> dict[str, Any]:
    """What was given for each parameter or field; those that are dataclasses are made of it."""
    values = {}
    for at, hint in hints.items():
        below = {name: kind for name, (kind, _) in _fields(hint).items()} if is_dataclass(hint) else {}
        values[at] = hint(**_values(below, options)) if below else options[at]
    return values


def _told(doc: docstring_parser.Docstring) -> dict[str, str]:
    """Parameter -> what a docstring says of it."""
    return {parameter.arg_name: _one_line(parameter.description) for parameter in doc.params}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _add_argument(parser: Parser, name: str, kind: Any, default: Any, text: str, placed: bool = False) -> None:
    """A parameter as an argument of the parser; one that is `placed` is known by its place, not by its name."""
    required = default in (inspect.Parameter.empty, MISSING)
    words: dict[str, Any] = {} if required else {"default": default}
    flags = f"--{name.replace('_', '-')}"
    while get_origin(kind) not in (None, Literal):
        origin, parts = get_origin(kind), [part for part in get_args(kind) if part is not NoneType]
        kind = parts[0]
        if origin is Annotated:
            arg: Arg = parts[1]
            flags = arg.flags or flags
            words |= {"metavar": arg.metavar} | ({"type": arg.check} if arg.check else {})
            words |= {"action": "append"} if arg.repeat else {}
        elif origin is tuple:
            words["nargs"] = len(parts)
        elif origin is list and "action" not in words:
            words["nargs"] = "*" if placed and not required else "+"
    if kind is bool:
        words["action"] = ActionYesNo(yes_prefix="", no_prefix="no-") if default else "store_true"
    elif get_origin(kind) is Literal:
        words |= {"type": kind, "metavar": "|".join(get_args(kind))}
    elif kind is not str:
        words.setdefault("type", kind)
    if not placed:
        words |= {"dest": name, "required": required}
    elif not required:
        words.setdefault("nargs", "?")
    known = {"readable": ", ".join(readable_suffixes()), "writable": ", ".join(writable_suffixes())}
    parser.add_argument(*([name] if placed else flags.split()), help=text.format(**known), **words)


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
