"""The `motiongpt3` command: finds the command, runs it, and turns every error of the user's into one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

from motiongpt3 import __version__
from motiongpt3.errors import MotionGPT3Error

COMMANDS = {
    "generate": ("generate:generate", "motions from sentences, as BVH, GLB, npz, npy, mp4, gif or png"),
    "predict": ("generate:predict", "a motion, and how it goes on"),
    "inbetween": ("generate:inbetween", "what happens between two motions, or in a gap of one"),
    "compose": ("generate:compose", "several prompts, one continuous motion"),
    "caption": ("generate:caption", "what happens in a motion, in English"),
    "chat": ("generate:chat", "free instructions, answered with words, motions or both"),
    "export": ("files:export", "a motion file in other formats, finished if asked: feet, loop, in place …"),
    "retarget": ("files:retarget", "a motion on your own rigged character, a .glb or .vrm file"),
    "search": ("files:search", "motion files of a folder that show what a sentence says"),
    "info": ("files:info", "what a motion file or a model holds"),
    "app": ("serve:app", "the web app: make, watch and export motions in a browser"),
    "serve": ("serve:serve", "the HTTP service: motions for other programs"),
    "data prepare": ("data:prepare", "turn recordings and captions into a data set"),
    "data check": ("data:check", "find what is wrong with a data set"),
    "data augment": ("data:augment", "make a pool of further examples from a data set"),
    "train vae": ("train:train", "train a motion VAE"),
    "train stage1": ("train:train", "train text to motion"),
    "train stage2": ("train:train", "train all tasks, the language model frozen"),
    "train stage3": ("train:train", "train everything on instructions"),
    "train evaluator": ("train:train", "train an evaluator: captions and motions in one space"),
    "train vq": ("train:train", "train a VQ-VAE, the quantised baseline"),
    "train experiment": ("train:train", "train a network of the paper's comparison"),
    "convert official": ("conversion:official", "a published MotionGPT3 checkpoint as a model of ours"),
    "convert gpt2": ("conversion:gpt2", "GPT-2 in a torch file as a backbone"),
    "convert mld-vae": ("conversion:mld_vae", "MLD's published motion VAE as one of ours"),
    "convert evaluator": ("conversion:evaluator", "Guo et al.'s published text-motion evaluator as ours"),
    "evaluate t2m": ("evaluate:t2m", "text to motion by R-precision, FID … under a named protocol"),
    "evaluate m2t": ("evaluate:m2t", "motion to text by BLEU, CIDEr, retrieval … under a named protocol"),
    "evaluate predict": ("evaluate:predict", "errors of continued motions under a named protocol"),
    "evaluate inbetween": ("evaluate:inbetween", "errors of filled gaps under a named protocol"),
    "evaluate prompts": ("evaluate:prompts", "do the motions do what the prompts say?"),
    "evaluate instructions": ("evaluate:instructions", "are instructions answered with what they ask for?"),
    "evaluate captions": ("evaluate:captions", "do captions of recorded clips say what happens?"),
    "evaluate vae": ("evaluate:vae", "reconstruction errors of a motion VAE, per source"),
    "evaluate convergence": ("evaluate:convergence", "which of two kinds of runs learns faster, and by how much"),
    "evaluate quality": ("evaluate:quality", "foot skating, jitter … of real and of generated motions"),
}
"""Command -> module and function in `motiongpt3.cli`, and what it does."""

EXTRAS = {
    "pytorch_lightning": "train",
    "lightning_fabric": "train",
    **dict.fromkeys(("torchmetrics", "simplemma", "matplotlib"), "evaluate"),
    **dict.fromkeys(
        ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client", "pydantic", "pydantic_core", "starlette"),
        "serve",
    ),
    **dict.fromkeys(("viser", "trimesh", "websockets"), "app"),
}
"""Modules of optional dependencies -> the extra that brings them."""

NOISY = ("pytorch_lightning", "lightning_fabric", "lightning_utilities", "torch", "diffusers", "huggingface_hub")
"""Packages whose warnings are for programmers."""

EXAMPLE = """
  motiongpt3 generate "a person walks forward and waves with the right hand" -o wave.mp4 -o wave.bvh
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after `motiongpt3`; those of this process if None.

    Returns:
        0; 1 where a check failed; 2 for a bad input, which is explained in one line on stderr; 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # A terminal that lacks a letter is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    with _plain_messages(), _ended_by_sigterm():
        try:
            return _run(words)
        except MotionGPT3Error as error:
            return _fail(str(error))
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            return _fail(f'this command needs {error.name}: pip install "motiongpt3[{extra}]"')
        except KeyboardInterrupt:
            return 130
        except _Terminated:
            print("motiongpt3: stopped by SIGTERM; nothing is half written", file=sys.stderr)
            return 143
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to an interrupt.
                return 130
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            return _fail(f"{name}{error.strerror or error}")


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        return _help(asked=bool(words))
    if words[0] == "--version":
        print(f"motiongpt3 {__version__}")
        return 0
    for length in (1, 2):
        name = " ".join(words[:length])
        if name in COMMANDS:
            module, _, function = COMMANDS[name][0].partition(":")
            command: Callable[..., int | None] = getattr(import_module(f"motiongpt3.cli.{module}"), function)
            if module == "train":  # its options are those of a configuration, which the stage decides
                return command(words[1], words[2:]) or 0
            from motiongpt3.cli.parser import run_command

            return run_command(command, name, words[length:])
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group and (words[1:2] or ["-h"])[0] in ("-h", "--help"):
        return _help(words[0], asked=bool(words[1:]))
    known = ", ".join(group or dict.fromkeys(name.split()[0] for name in COMMANDS))
    given = " ".join(words[:2] if group else words[:1])
    raise MotionGPT3Error(f"there is no command {given[:80]!r}; choose among: {known}")


def _help(group: str = "", *, asked: bool) -> int:
    """Print the commands: 0 where someone asked for it, 2 where a command is missing."""
    names = [name for name in COMMANDS if name.startswith(group)]
    lines = [f"usage: motiongpt3 {group or 'COMMAND'} … [--help]", ""]
    lines += [] if group else ["Human motion as a second language: words in, motion out.", ""]
    width = max(map(len, names)) + 2
    lines += ["commands:", *(f"  {name:<{width}}{COMMANDS[name][1]}" for name in names)]
    lines += ["", f"`motiongpt3 {names[0]} --help` tells the options of a command."]
    lines += [] if group else [f"\nexample:{EXAMPLE.rstrip()}"]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def _fail(message: str) -> int:
    print("motiongpt3:", " ".join(message.split()), file=sys.stderr)
    return 2


class _Terminated(BaseException):
    """SIGTERM came: what is being written is cleared away on the way out."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs inside as an interrupt would, with `_Terminated`; in the main thread only."""

    def end(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _plain_messages() -> Iterator[None]:
    """Warnings, each once, and our log lines as single lines on stderr."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            print("motiongpt3: warning:", text, file=sys.stderr)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("motiongpt3: %(message)s"))
    logger = logging.getLogger("motiongpt3")
    before = logger.level, logger.propagate
    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        for package in NOISY:
            warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]


if __name__ == "__main__":
    sys.exit(main())
