"""From a task and its values to a prompt."""

from __future__ import annotations

import re

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.lengths import Spelling, spell_frames, spell_seconds
from motiongpt3.instructions.prompt import Message, Prompt, Style, chat_pieces, joined, printable, turn_end
from motiongpt3.instructions.templates import Task, filled, phrasings

SHORT_SHARE = 0.2
"""How often stage 3 asks in the words of the API, so that those stay trained."""
CASUAL_SHARE = 0.25
"""How often stage 3 writes a question in lower case and without its last mark."""


def build(
    task: Task,
    style: Style,
    rng: np.random.Generator | None = None,
    *,
    stage: int = 3,
    caption: str | None = None,
    seconds: float | None = None,
    frames: int | None = None,
    fps: float = 20.0,
) -> Prompt:
    """The prompt of a task.

    Args:
        task: one of `templates.TASKS`.
        style: the chat format.
        rng: draws the phrasing for training; None takes the canonical one, which the API sends.
        stage: 2 draws from the short phrasings, 3 from the instructions and now and then from the short ones.
        caption: what happens; without it the answer of a task that captions stays open (it ends the prompt).
        seconds: duration; from `frames` and `fps` if None.
        frames: duration; from `seconds` and `fps` if None.
        fps: frames per second.

    Raises:
        MotionGPT3Error: an unknown task, or a value that the question needs is missing.
    """
    texts = phrasings(task)
    if not texts.short and stage == 2:
        raise MotionGPT3Error(f"{task} is no task of stage 2")
    if rng is None:
        template = (texts.short or texts.instructions)[0]
    elif stage == 2 or (texts.short and rng.random() < SHORT_SHARE):
        template = str(rng.choice(texts.short))
    else:
        captionless = [text for text in texts.instructions if "{caption}" not in text]
        template = str(rng.choice(texts.instructions if caption is not None or not captionless else captionless))
        if rng.random() < CASUAL_SHARE:
            template = template.lower().rstrip(".?!")
    if frames is None and seconds is not None:
        frames = max(round(seconds * fps), 1)
    elif seconds is None and frames is not None:
        seconds = frames / fps
    question = filled(template, _values(caption, seconds, frames, rng))
    choices = texts.frame_answers if texts.frame_answers and re.search("frame", template, re.I) else texts.answers
    answer = choices[0] if rng is None else str(rng.choice(choices))
    values = _values(caption, seconds, frames, None)
    try:
        pieces = filled(answer, values)
    except MotionGPT3Error:
        if rng is not None:
            raise
        return Prompt(chat_pieces([Message("user", question)], style), ())
    return Prompt(chat_pieces([Message("user", question)], style), joined([*pieces, turn_end(style)]))


def text_prompt(question: str, answer: str, style: Style) -> Prompt:
    """A plain question and its answer in words."""
    return Prompt(chat_pieces([Message("user", (question,))], style), (printable(answer) + turn_end(style),))


def _values(
    caption: str | None, seconds: float | None, frames: int | None, rng: np.random.Generator | None
) -> dict[str, str]:
    values: dict[str, str] = {}
    if caption is not None:
        words = " ".join(printable(caption).split()).rstrip(".!? ")
        values |= {"caption": words, "Caption": words[:1].upper() + words[1:]}
    spelling: Spelling = "digits" if rng is None else _spelling(rng)
    if seconds is not None:
        values |= {"seconds": spell_seconds(seconds, spelling), "s": spell_seconds(seconds, "number")}
    if frames is not None:
        values |= {"frames": spell_frames(frames), "f": str(frames)}
    return values


def _spelling(rng: np.random.Generator) -> Spelling:
    spellings: list[Spelling] = ["digits", "words", "short", "sec"]
    return spellings[int(rng.choice(len(spellings), p=[0.6, 0.25, 0.075, 0.075]))]
