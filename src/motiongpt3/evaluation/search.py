"""Which motion files of a folder show what a sentence says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.tmr import TextMotionEvaluator
from motiongpt3.formats import ReadOptions, read, readable_suffixes


@dataclass(frozen=True)
class Found:
    """A motion file and how well it fits the sentence.

    Attributes:
        file: the file.
        seconds: its duration.
        similarity: cosine of the angle between the sentence and the motion, -1 to 1.
    """

    file: Path
    seconds: float
    similarity: float


def motion_files(folder: str | Path) -> list[Path]:
    """All files in a folder, and in those within, whose suffix can be read, by name; linked folders are left out.

    Raises:
        MotionGPT3Error: there is no such folder, or it holds no such file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MotionGPT3Error(f"{folder} is no folder; give one with motion files")
    suffixes = readable_suffixes()
    files = [Path(here) / name for here, _, names in os.walk(folder) for name in names]
    found = sorted(file for file in files if file.suffix.lower() in suffixes)
    if not found:
        raise MotionGPT3Error(f"{folder} holds no motion files; readable are {', '.join(suffixes)}")
    return found


def search_motions(
    evaluator: TextMotionEvaluator,
    text: str,
    files: Iterable[Path],
    skip: Callable[[Path, str], None],
    options: ReadOptions | None = None,
) -> list[Found]:
    """Files in the order in which their motions fit a sentence, best first.

    Args:
        evaluator: says what fits.
        text: what should happen in the motion.
        files: motion files.
        skip: called with each file that cannot be read, and why.
        options: what holds for all of them.

    Raises:
        MotionGPT3Error: no file can be read, or the evaluator cannot read sentences.
    """
    query = torch.nn.functional.normalize(evaluator.embed_texts([text])[0], dim=-1)
    found = []
    for file in files:
        try:
            motion = read(file, options).motion
            vector = torch.nn.functional.normalize(evaluator.embed_motions([motion])[0], dim=-1)
        except MotionGPT3Error as error:
            skip(file, str(error))
        else:
            found.append(Found(file, motion.seconds, float(vector @ query)))
    if not found:
        raise MotionGPT3Error("none of the files can be read as a motion")
    return sorted(found, key=lambda one: -one.similarity)
