"""What the commands share: the parser, checking outputs before the work, loading a model."""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import suffix_of, writable_suffixes
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.config import MotionGPT3Config, Profile
    from motiongpt3.models.motiongpt3 import MotionGPT3
    from motiongpt3.motion.postprocess import Changes


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
    from motiongpt3.models.motiongpt3 import EMBEDDED, read_settings

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


# Numbers as aligned text.

METRICS = {
    "r_precision_1": ("R-precision 1 (%)", 100.0, 1),
    "r_precision_2": ("R-precision 2 (%)", 100.0, 1),
    "r_precision_3": ("R-precision 3 (%)", 100.0, 1),
    "mm_dist": ("MM-Dist", 1.0, 3),
    "fid": ("FID", 1.0, 3),
    "fid_halves": ("FID, half against other half", 1.0, 3),
    "diversity": ("diversity", 1.0, 3),
    "multimodality": ("multimodality", 1.0, 3),
    "skate_ratio": ("frames with a skating foot (%)", 100.0, 2),
    "skate_speed": ("speed of toes near the floor (cm/s)", 1.0, 2),
    "penetration_mean": ("depth under the floor (mm)", 1.0, 2),
    "floating": ("floating frames (%)", 100.0, 2),
    "jitter": ("jitter (m/s³)", 1.0, 1),
    "bleu_1": ("BLEU-1, words", 100.0, 1),
    "bleu_4": ("BLEU-4, words", 100.0, 1),
    "rouge_l": ("ROUGE-L, words", 100.0, 1),
    "cider": ("CIDEr, words (0 to 10)", 1.0, 3),
    "lemma_bleu_1": ("BLEU-1, lemmas", 100.0, 1),
    "lemma_bleu_4": ("BLEU-4, lemmas", 100.0, 1),
    "lemma_rouge_l": ("ROUGE-L, lemmas", 100.0, 1),
    "lemma_cider": ("CIDEr, lemmas (0 to 10)", 1.0, 3),
    "bert_score": ("BERTScore F1, rescaled", 100.0, 1),
    "bert_baseline": ("BERTScore F1 of unrelated captions", 100.0, 1),
    "action": ("action word right (%)", 100.0, 1),
    "left_right": ("left or right right (%)", 100.0, 1),
    "forward_backward": ("forward or backward right (%)", 100.0, 1),
    "distinct": ("distinct captions (%)", 100.0, 1),
    "ade": ("ADE (m)", 1.0, 3),
    "fde": ("FDE (m)", 1.0, 3),
    "ade_best": ("ADE, best of the predictions (m)", 1.0, 3),
    "fde_best": ("FDE, best of the predictions (m)", 1.0, 3),
    "apd": ("APD (m)", 1.0, 3),
    "apd_norm": ("APD as DLow has it (m)", 1.0, 2),
    "seam_jerk": ("jerk at the seams (m/s³)", 1.0, 0),
}
"""Metrics of `evaluation.tasks`: words, what they are multiplied with and digits, for tables."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in [head, *rows]
    )


# The options that finish a motion, for every command that writes one, and what they report.

OPTIONS = ("fix_feet", "in_place", "loop", "fps", "smooth")


def add_finish_options(parser: Parser) -> None:
    """--fix-feet, --in-place, --loop, --fps and --smooth."""
    parser.add_argument("--fix-feet", action="store_true", help="hold standing feet in their places on the floor")
    parser.add_argument("--in-place", action="store_true", help="stay on the spot: take away the way, keep the steps")
    parser.add_argument("--loop", action="store_true", help="cut out a seamless cycle; its last pose is its first")
    parser.add_argument("--fps", type=PositiveFloat, metavar="F", help="frames per second of what is written")
    parser.add_argument(
        "--smooth", type=PositiveFloat, metavar="S", help="average joints over S seconds; 0.2 takes away a tremor"
    )


def asks_for_finish(options: Namespace) -> bool:
    """Whether any of these options is given; one that is out of range is refused, before anything is drawn.

    Raises:
        MotionGPT3Error: a number that `motion.postprocess.postprocess` does not take.
    """
    if not any(options[name] for name in OPTIONS):
        return False
    from motiongpt3.motion.postprocess import check_options

    check_options(options.fps, options.smooth)
    return True


def finished(motion: Motion, options: Namespace) -> Motion:
    """The motion finished as the options say; itself if they say nothing."""
    if not asks_for_finish(options):
        return motion
    from motiongpt3.motion.postprocess import postprocess

    return postprocess(motion, **{name: options[name] for name in OPTIONS})


def changes(before: Sequence[Motion], after: Sequence[Motion], options: Namespace) -> Changes | None:
    """The mean of each measure before and after; None if no option was given."""
    if not asks_for_finish(options):
        return None
    from motiongpt3.motion.postprocess import changes

    return changes(before, after)


def changes_table(found: Changes) -> str:
    """`changes` as aligned text."""
    from motiongpt3.motion.postprocess import UNITS

    lines = [[f"{name} ({UNITS[name]})", *(f"{side:.3f}" for side in both.values())] for name, both in found.items()]
    return table(["", "before", "after"], lines)


# A port to listen on, or one line that says why not.


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        MotionGPT3Error: there is no such address, or the port is taken or not allowed.
    """
    if not 0 <= port <= 65535:
        raise MotionGPT3Error(f"--port must be 0 to 65535, not {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MotionGPT3Error(f"cannot listen on {host}, port {port}: {reason}") from None
    return listener
