"""What the commands share: the parser, checking outputs before the work, loading a model."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import suffix_of, writable_suffixes
from motiongpt3.instructions.prompt import clean_prompt

if TYPE_CHECKING:
    from motiongpt3.models.config import MotionGPT3Config, Profile
    from motiongpt3.models.motiongpt3 import MotionGPT3

set_parsing_settings(docstring_parse_attribute_docstrings=True)

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
            lambda found: f"needs {_words(found[1])}, not {found[2]}",
            text,
        )
        text = re.sub(r"Not of type (\w+):.*?('.*'|\S+)(?: does not conform.*)?$", _needs, text)
        text = re.sub(r"Expected an? (.*)\. Got value: (.*)", _needs, text)
        raise MotionGPT3Error(f"{text} (see {self.prog} --help)")


def _needs(found: re.Match[str]) -> str:
    return f"needs {_words(found[1])}, not {found[2]}"


def _words(kinds: str) -> str:
    """Names of types as words: "<class 'int'>, typing.Literal['all']" -> "a whole number or 'all'"."""
    kinds = re.sub(r"<class '([^']+)'>", r"\1", kinds)
    kinds = re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", r"\1", kinds)
    names = [name for name in kinds.split(", ") if name != "NoneType"]
    return " or ".join(KINDS.get(name, name) for name in names)


def add_model_options(parser: Parser) -> None:
    """--model, --profile and --device."""
    parser.add_argument("--model", metavar="MODEL", help="a folder or a hub id; the model of this package if left out")
    parser.add_argument(
        "--profile",
        type=Literal["default", "official"],
        metavar="default|official",
        help="of a converted official checkpoint: its own prompts and sampler, or faster ones; as stored if left out",
    )
    parser.add_argument(
        "--device", type=Literal["cpu", "cuda"], default="cpu", metavar="cpu|cuda", help="where to compute"
    )


def add_format_options(parser: Parser) -> None:
    """--bvh-dialect and --body."""
    parser.add_argument(
        "--bvh-dialect",
        type=Literal["ours", "mixamo", "cmu"],
        default="ours",
        metavar="ours|mixamo|cmu",
        help="names and joints of BVH files; ours loses nothing, the others are what tools for Mixamo or CMU expect",
    )
    parser.add_argument(
        "--body",
        type=Literal["capsules", "mannequin"],
        default="capsules",
        metavar="capsules|mannequin",
        help="who is drawn in films and pictures; the mannequin is that of GLB files",
    )


def add_output_option(parser: Parser, more: str = "", required: bool = True) -> None:
    """-o, which may be repeated, and --json."""
    parser.add_argument(
        "-o",
        "--out",
        action="append",
        required=required,
        metavar="FILE",
        help=f"file to write; its suffix decides the format ({', '.join(writable_suffixes())}); may be repeated{more}",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def add_drawing_options(parser: Parser, seed: str = "same seed, same motion") -> None:
    """--seed, --guidance and --steps."""
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help=seed)
    parser.add_argument(
        "--guidance",
        type=NonNegativeFloat,
        metavar="G",
        help="how strictly to follow the words: 1 is plain, more is stricter and less varied; the model's own default "
        "if left out",
    )
    parser.add_argument(
        "--steps", type=PositiveInt, metavar="N", help="sampling steps; the model's own default if left out"
    )


def check_prompts(prompts: Sequence[str]) -> None:
    """MotionGPT3Error for a prompt that is empty, endless or not text."""
    for prompt in prompts:
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise MotionGPT3Error(f"the prompt {prompt[:40]!r} is not valid UTF-8 text")
        clean_prompt(prompt)


def writable(out: str | Path) -> Path:
    """The path; MotionGPT3Error if its format cannot be written."""
    out = Path(out)
    if suffix_of(out) not in writable_suffixes():
        known = ", ".join(writable_suffixes())
        raise MotionGPT3Error(f"cannot write {out.suffix or 'a file without suffix'}: {out}; writable are {known}")
    return out


def settings_at_hand(model: str | None, profile: Profile | None = None) -> MotionGPT3Config | None:
    """The configuration of a model that is on this disk, read without loading it."""
    from motiongpt3.models.pretrained import EMBEDDED, read_settings

    folder = EMBEDDED if model is None else Path(model)
    return read_settings(folder, profile)[0] if model is None or folder.is_dir() else None


def load_model(model: str | None, device: str, profile: Profile | None = None) -> MotionGPT3:
    """The model of --model, --device and --profile.

    Raises:
        MotionGPT3Error: there is none or it is damaged, or no CUDA device is there.
    """
    import torch

    from motiongpt3.models.motiongpt3 import MotionGPT3

    if device == "cuda" and not torch.cuda.is_available():
        raise MotionGPT3Error("this PyTorch sees no CUDA device; use --device cpu")
    return MotionGPT3.from_pretrained(model, device=device, profile=profile)


@contextmanager
def output_files(files: Sequence[Path]) -> Iterator[None]:
    """Check that files can be written before the work that makes them.

    A missing folder is made if the one above it exists, and removed again if nothing was written into it.

    Raises:
        MotionGPT3Error: a file is given twice, is a folder or has too long a name, or its folder cannot be written.
    """
    made: list[Path] = []
    try:
        for file in files:
            if files.count(file) > 1:
                raise MotionGPT3Error(f"{file} is given twice")
            if file.is_dir():
                raise MotionGPT3Error(f"{file} is a folder; give a file name")
            if len(os.fsencode(file.name)) > 200:
                raise MotionGPT3Error(f"the file name {file.name[:30]}… is too long")
            folder = file.parent
            try:
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise MotionGPT3Error(f"cannot write to the folder {folder}: {reason}") from None
        yield
    finally:
        for folder in made:
            if sys.exc_info()[0] is not None and not any(folder.iterdir()):
                folder.rmdir()


def show_progress() -> bool:
    """Whether progress bars make sense: stderr is a terminal."""
    return sys.stderr.isatty()
