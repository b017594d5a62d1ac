"""From clips to sequences to train on: which task, in which words, on which motions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Prompt, Slot, generation_prompt
from motiongpt3.instructions.templates import TASKS, build, phrasings, text_prompt, text_turns
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.sequence import InputMotion, OutputMotion, Piece, TextPiece

WHOLE, START, END = 0, 1, 2
"""The three motions of a clip: all of it, its beginning, its end."""
SHOWN = {"motion": WHOLE, "start": START, "end": END}
"""Which of them fills a place in a question."""
BARE = "caption"
"""Text to motion with the caption alone, as in stage 1 and as `generate` asks."""
PLAIN = "plain_text"
"""Questions without motion."""
IN_WORDS = (
    "motion_to_caption",
    "motion_to_length",
    "motion_to_caption_length",
    "caption_to_length",
    "length_to_caption",
)
"""Tasks that are answered in words alone, besides plain text."""
TOLD = "caption_length_to_motion"
"""The task whose words say how long the motion is."""
IMPLIED = (BARE, "caption_to_motion")
"""Tasks whose words imply it, where the motion is a whole recording."""
WITHOUT_MOTION = ("caption_to_length", "length_to_caption", PLAIN)
"""Tasks that a frozen text stream can learn nothing from."""


@dataclass(frozen=True)
class TrainingSequence:
    """One sequence to learn from: a question and its answer.

    Attributes:
        row: its pieces; motions are numbered within the sequence.
        shows: for each motion that is read, its number among the batch's (see `TaskMix.sequences`).
        draws: number of the motion that is drawn, if one is.
        tells_length: whether the words tell how long that motion is.
    """

    row: tuple[Piece, ...]
    shows: tuple[int, ...]
    draws: int | None
    tells_length: bool

    @property
    def words(self) -> int:
        """Text tokens behind the first motion, or all of them without one."""
        first = next((i for i, piece in enumerate(self.row) if not isinstance(piece, TextPiece)), 0)
        return sum(len(piece.ids) for piece in self.row[first:] if isinstance(piece, TextPiece))

    def renumbered(self, shown: int, drawn: int) -> list[Piece]:
        """The row with its motions numbered from `shown` and `drawn`, for a batch of several rows."""
        offset = {InputMotion: shown, OutputMotion: drawn}
        return [p if isinstance(p, TextPiece) else replace(p, motion=p.motion + offset[type(p)]) for p in self.row]


class TaskMix:
    """Makes training sequences of tasks that are drawn by weight.

    Args:
        model: its tokenizer and chat format.
        tasks: names and weights, see `check_tasks`.
        stage: 2 or 3: which phrasings.
        learn_prompts: also learn to write the prompts.
    """

    def __init__(
        self,
        model: MotionGPT3,
        tasks: dict[str, float],
        stage: Literal[2, 3],
        learn_prompts: bool = False,
    ) -> None:
        self.backbone, self.config, self.question = model.backbone, model.config, model.question
        self.stage, self.turns, self.learn_prompts = stage, text_turns(), learn_prompts
        self.names = list(tasks)
        self.shares = np.array(list(tasks.values())) / sum(tasks.values())
        self.in_words = np.array([name in (*IN_WORDS, PLAIN) for name in tasks])
        self.kinds = [kind for kind in (False, True) if self.shares[self.in_words == kind].any()]

    def sequences(
        self, captions: Sequence[str], frames: Tensor, whole: Tensor, seed: int, in_words: bool | None = None
    ) -> list[TrainingSequence]:
        """A sequence for each of B clips, all answered in words or none: so little is padded.

        Args:
            captions: what happens in each.
            frames: (3, B) of the whole, the beginning and the end, 0 for those that are not there. Motion m of clip b
                has the number m * B + b.
            whole: (B,) whether the clip is all of a recording, so that its duration says something.
            seed: decides tasks and words.
            in_words: whether all are answered in words or none is; one of `kinds`. None: the seed decides.
        """
        rng = np.random.default_rng(seed)
        drawn_kind = rng.random() < 1 - self.shares[~self.in_words].sum()
        kind = drawn_kind if in_words is None else in_words
        shares = np.where(self.in_words == (kind if kind in self.kinds else not kind), self.shares, 0.0)
        drawn = [self.names[i] for i in rng.choice(len(self.names), len(captions), p=shares / shares.sum())]
        table, complete = frames.tolist(), whole.tolist()
        sequences = []
        for clip, (task, caption) in enumerate(zip(drawn, captions, strict=True)):
            name = _possible(task, table[START][clip] > 0, complete[clip])
            prompt = self._prompt(name, caption, table[WHOLE][clip], rng)
            told = name == TOLD or (complete[clip] and name in IMPLIED)
            sequences.append(self._sequence(prompt, clip, len(captions), told))
        return sequences

    def _prompt(self, task: str, caption: str, frames: int, rng: np.random.Generator) -> Prompt:
        style = self.config.prompt_style
        if task == BARE:
            return Prompt((generation_prompt(caption, style),), (Slot(),))
        if task == PLAIN:
            return text_prompt(*self.turns[int(rng.integers(len(self.turns)))], style)
        return build(task, style, rng, stage=self.stage, caption=caption, frames=frames, fps=self.config.fps)  # type: ignore[arg-type]

    def _sequence(self, prompt: Prompt, clip: int, clips: int, tells_length: bool) -> TrainingSequence:
        row = [p if isinstance(p, InputMotion) else replace(p, learn=self.learn_prompts) for p in self.question(prompt)]
        shows = [SHOWN[slot.name] * clips + clip for slot in prompt.question if not isinstance(slot, str)]
        row += [
            TextPiece(tuple(self.backbone.ids(piece)), learn=True)
            if isinstance(piece, str)
            else OutputMotion(0, learn=True)
            for piece in prompt.answer
        ]
        draws = WHOLE * clips + clip if any(isinstance(piece, OutputMotion) for piece in row) else None
        if self.stage == 2 and isinstance(row[-1], TextPiece) and isinstance(row[-2], OutputMotion):
            row.pop()  # with the text stream frozen there is nothing to learn from the end of the turn
        return TrainingSequence(tuple(row), tuple(shows), draws, tells_length)


def _possible(task: str, has_ends: bool, whole: bool) -> str:
    """The task, or one like it where the clip is too short for it or only a part."""
    if not has_ends and task.startswith(("predict", "inbetween")):
        return "caption_to_motion"
    if not whole and task == "caption_to_length":
        return "motion_to_length"
    return task


def check_tasks(tasks: dict[str, float], stage: Literal["2", "3"], text_trains: bool) -> None:
    """Refuse tasks that cannot be trained on.

    Args:
        tasks: names and weights: those of the templates, "caption" (the bare caption) and "plain_text".
        stage: whose phrasings.
        text_trains: whether the text stream, too, trains.

    Raises:
        MotionGPT3Error: an unknown task, one without phrasings for the stage, one without a motion for a frozen text
            stream, or a weight that is no share.
    """
    known = (*TASKS, BARE, PLAIN)
    for name, weight in tasks.items():
        if name not in known:
            raise MotionGPT3Error(f"there is no task {name!r}; there are {', '.join(known)}")
        if not 0 <= weight < float("inf"):
            raise MotionGPT3Error(f"the weight of task {name} must be a number from 0, not {weight}")
        if name in WITHOUT_MOTION and weight and not text_trains:
            raise MotionGPT3Error(f"task {name} has no motion: nothing learns from it while the text stream is frozen")
        if stage == "2" and name in TASKS and weight and not phrasings(name).short:
            raise MotionGPT3Error(f"{name} is no task of stage 2")
    if not any(tasks.values()):
        raise MotionGPT3Error("no task has a weight above 0")
