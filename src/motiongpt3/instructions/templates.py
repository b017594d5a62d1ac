"""The phrasings of every task, read from templates/*.yaml, and the prompts made of them.

A file holds lists of phrasings, one a line: `short` (stage 2, and what the API sends: the first one), `instructions`
(stage 3), `answers`, and `frame_answers` for questions that speak of frames. In braces stand {caption} (without a full
stop), {Caption} (with a capital), {seconds} ("3.5 seconds"), {frames} ("70 frames"), {s} and {f} (the bare numbers),
and the motions {motion}, {start} and {end}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np
import yaml

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.lengths import Spelling, spell_frames, spell_seconds
from motiongpt3.instructions.prompt import (
    Message,
    Modality,
    Pieces,
    Prompt,
    Slot,
    Style,
    chat_pieces,
    joined,
    printable,
    turn_end,
)

Task = Literal[
    "caption_to_motion",
    "caption_length_to_motion",
    "motion_to_caption",
    "motion_to_length",
    "motion_to_caption_length",
    "caption_to_length",
    "length_to_caption",
    "random_motion",
    "predict",
    "predict_with_words",
    "inbetween",
    "inbetween_with_words",
    "both_motion_and_text",
]
TASKS: tuple[Task, ...] = get_args(Task)
SHORT_SHARE = 0.2
"""How often stage 3 asks in the words of the API, so that those stay trained. A round number."""
CASUAL_SHARE = 0.25
"""How often stage 3 writes a question in lower case and without its last mark, as people type. A round number."""
SPELLINGS: dict[Spelling, float] = {"digits": 0.6, "words": 0.25, "short": 0.075, "sec": 0.075}
"""How often stage 3 spells a duration in each way, by what is usual in writing."""
MOTION_FIELDS = ("motion", "start", "end")
LENGTH_FIELDS = ("seconds", "frames", "s", "f")
_FIELD = re.compile(r"\{(\w*)\}")


_QUESTIONS: dict[Task, tuple[set[str], ...]] = {
    "caption_to_motion": ({"caption"},),
    "caption_length_to_motion": tuple({"caption", length} for length in LENGTH_FIELDS),
    "motion_to_caption": ({"motion"},),
    "motion_to_length": ({"motion"},),
    "motion_to_caption_length": ({"motion"},),
    "caption_to_length": ({"caption"},),
    "length_to_caption": tuple({length} for length in LENGTH_FIELDS),
    "random_motion": (set(),),
    "predict": ({"start"},),
    "predict_with_words": ({"start", "caption"},),
    "inbetween": ({"start", "end"},),
    "inbetween_with_words": ({"start", "end", "caption"},),
    "both_motion_and_text": ({"caption"}, set()),
}
"""What a question of each task holds: one of these sets."""

_ANSWERS: dict[Task, tuple[set[str], ...]] = dict.fromkeys(TASKS, ({"motion"},)) | {
    "motion_to_caption": ({"caption"},),
    "motion_to_length": ({"seconds"}, {"frames"}),
    "motion_to_caption_length": ({"Caption", "seconds"}, {"Caption", "frames"}),
    "caption_to_length": ({"seconds"}, {"frames"}),
    "length_to_caption": ({"Caption"},),
    "both_motion_and_text": ({"motion", "Caption"}, {"motion", "caption"}),
}


@dataclass(frozen=True)
class Phrasings:
    """How one task is asked and answered."""

    short: tuple[str, ...]
    instructions: tuple[str, ...]
    answers: tuple[str, ...]
    frame_answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeldBack:
    """A question that no training example asks, and what kind of answer it wants."""

    question: Pieces
    expects: Modality


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
        task: one of TASKS.
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
    drawn = "digits" if rng is None else list(SPELLINGS)[int(rng.choice(len(SPELLINGS), p=list(SPELLINGS.values())))]
    question = chat_pieces([Message("user", filled(template, _values(caption, seconds, frames, drawn)))], style)
    choices = texts.frame_answers if texts.frame_answers and re.search("frame", template, re.I) else texts.answers
    answer = choices[0] if rng is None else str(rng.choice(choices))
    try:
        pieces = filled(answer, _values(caption, seconds, frames, "digits"))
    except MotionGPT3Error:
        if rng is not None:
            raise
        return Prompt(question, ())
    return Prompt(question, joined([*pieces, turn_end(style)]))


def text_prompt(question: str, answer: str, style: Style) -> Prompt:
    """A plain question and its answer in words."""
    return Prompt(chat_pieces([Message("user", (question,))], style), (printable(answer) + turn_end(style),))


@cache
def phrasings(task: Task) -> Phrasings:
    """The phrasings of a task; MotionGPT3Error for an unknown task or a template that does not fit it."""
    if task not in TASKS:
        raise MotionGPT3Error(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    lists = {name: _lines(text) for name, text in _read(task).items()}
    if unknown := set(lists) - set(Phrasings.__annotations__):
        raise MotionGPT3Error(f"the template of {task} has the unknown part {sorted(unknown)[0]!r}")
    result = Phrasings(**{"short": (), "instructions": (), "answers": (), **lists})
    for text in (*result.short, *result.instructions):
        _check(task, text, fields(text), _QUESTIONS[task])
    for text in (*result.answers, *result.frame_answers):
        _check(task, text, fields(text), _ANSWERS[task])
    return result


@cache
def heldback() -> tuple[HeldBack, ...]:
    """The held-back questions (heldback.yaml), never to be trained on."""
    kinds: dict[str, Modality] = {kind: kind for kind in get_args(Modality)}
    return tuple(
        HeldBack(filled(line, {}), kinds[kind]) for kind, text in _read("heldback").items() for line in _lines(text)
    )


@cache
def questions() -> tuple[str, ...]:
    """Plain questions that want words (questions.yaml)."""
    return tuple(line for text in _read("questions").values() for line in _lines(text))


@cache
def text_turns() -> tuple[tuple[str, str], ...]:
    """(question, answer) of plain conversation; the answers are the untouched backbone's (text_turns.yaml)."""
    return tuple(_read("text_turns").items())


def fields(template: str) -> tuple[str, ...]:
    """The names in braces, in order."""
    return tuple(_FIELD.findall(template))


def filled(template: str, values: Mapping[str, str]) -> Pieces:
    """A template with its words filled in; motions become slots. What is filled in is never read as a template."""
    parts = _FIELD.split(template)
    pieces: list[str | Slot] = []
    for text, name in zip(parts[::2], [*parts[1::2], None], strict=True):
        pieces.append(text)
        if name in MOTION_FIELDS:
            pieces.append(Slot(name))
        elif name is not None:
            if name not in values:
                raise MotionGPT3Error(f"the phrasing {template!r} needs {name}, which is not given")
            pieces.append(values[name])
    return joined(pieces)


def _values(caption: str | None, seconds: float | None, frames: int | None, spelling: Spelling) -> dict[str, str]:
    """What is given, as the fields of a template."""
    values: dict[str, str] = {}
    if caption is not None:
        words = " ".join(printable(caption).split()).rstrip(".!? ")
        values |= {"caption": words, "Caption": words[:1].upper() + words[1:]}
    if seconds is not None:
        values |= {"seconds": spell_seconds(seconds, spelling), "s": spell_seconds(seconds, "number")}
    if frames is not None:
        values |= {"frames": spell_frames(frames), "f": str(frames)}
    return values


def _check(task: str, text: str, names: tuple[str, ...], allowed: tuple[set[str], ...]) -> None:
    if set(names) not in allowed or len(set(names)) < len(names):
        raise MotionGPT3Error(f"the template of {task} has the phrasing {text!r}, which holds {sorted(names)}")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _read(name: str) -> dict[str, str]:
    """The strings of a template file by name."""
    try:
        content = yaml.safe_load((files(__package__) / "templates" / f"{name}.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise MotionGPT3Error(f"the template {name}.yaml cannot be read ({error}); install the package again") from None
    if not isinstance(content, dict) or not all(isinstance(x, str) for pair in content.items() for x in pair):
        raise MotionGPT3Error(f"the template {name}.yaml must hold lists of lines by name")
    return content
