"""The official code's prompts: words, and names of tokens that stand for motions.

Facts: OpenMotionLab/MotionGPT3, commit cf5bab7. A text of training is `INPUT \\n OUTPUT<|endoftext|>`; what its
evaluation asks has one " \\n" more and words that training never saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from motiongpt3.models.config import Profile

Task = Literal["t2m", "m2t", "predict", "inbetween"]

START, END = "<start_of_motion>", "<end_of_motion>"
MOTION_TOKENS = ("<masked_motion>", "<pad_motion>", "<motion_latent_holder_output>", "<motion_latent_holder>")
"""The motion vocabulary, in the order of its rows."""
MASKED, _, OUTPUT, INPUT = MOTION_TOKENS
TEXT_END = "<|endoftext|>"
JOINT = " \n "
"""What stands between input and output."""

QUESTIONS = {
    "t2m": "Generate motion: {given}",
    "m2t": "Generate text: {given}",
    "predict": "Predict motion: {given}",
    "inbetween": "Complete the masked motion: {given}",
}
"""What the official evaluation says around what is given."""


def given_motion(holders: int) -> str:
    """A motion that the model reads."""
    return START + INPUT * holders + END


def asked_motion(holders: int) -> str:
    """A motion that the model makes."""
    return START + OUTPUT * holders + END


def hidden_motion(holders: int) -> str:
    """The missing part between two motions."""
    return MASKED * holders


def quoted(caption: str) -> str:
    """A caption in double quotes, as half of the official training captions are."""
    return f'"{caption}"'


def given(task: Task, caption: str, holders: int) -> str:
    """The input of a task: its caption, or the motions it starts from."""
    if task == "t2m":
        return caption
    motion = given_motion(holders)
    return motion + hidden_motion(holders) + motion if task == "inbetween" else motion


def training_text(task: Task, caption: str, holders: int) -> str:
    """One example of the official stages 1 and 2, the end of the text included."""
    question = given(task, caption, holders)
    if task in ("predict", "inbetween"):
        question = QUESTIONS[task].format(given=question)
    answer = caption if task == "m2t" else asked_motion(holders)
    return question + JOINT + answer + TEXT_END


def question(task: Task, caption: str, holders: int, profile: Profile) -> str:
    """What the model continues: with the holders of a motion after START, or with words.

    official: the words of the official evaluation. default: as in training (see `training_text`).
    """
    asked = given(task, caption, holders)
    if profile == "official":
        asked = QUESTIONS[task].format(given=asked) + " \n"
    elif task in ("predict", "inbetween"):
        asked = QUESTIONS[task].format(given=asked)
    return asked + " \n" if task == "m2t" else asked + JOINT + asked_motion(holders)
