"""Prompts: the only code that turns a user's words into what the text stream reads."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from motiongpt3.errors import MotionGPT3Error

MAX_CHARACTERS = 1000
"""Longest prompt; the longest training caption has 150 characters."""

Style = Literal["chatml", "plain"]
"""chatml is the chat format of SmolLM2-Instruct; plain is for language models without one."""

Modality = Literal["text", "motion", "both"]

_MARKER = re.compile(r"<\|[A-Za-z_]*\|>")
"""A chat format's own tokens; in a user's words they would end the turn."""


@dataclass(frozen=True)
class Slot:
    """The place of a motion between pieces of text: in a question it is given, in an answer it is to be produced."""

    name: str = "motion"
    """Which motion: "motion", or "start" and "end" of one."""


Pieces = tuple[str | Slot, ...]
"""Text and motions in order; no two texts are neighbours and none is empty."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: Pieces


@dataclass(frozen=True)
class Prompt:
    """What the model is asked, wrapped for its language model, and what it is to answer.

    In training, loss falls on the answer; for inference the answer says what is to be produced.
    """

    question: Pieces
    answer: Pieces
    """Ends with what ends a turn (`turn_end`)."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the motions that the question holds, in order."""
        return tuple(piece.name for piece in self.question if isinstance(piece, Slot))

    @property
    def modality(self) -> Modality:
        """Whether the answer is a text, a motion, or a motion and a text."""
        motion = any(isinstance(piece, Slot) for piece in self.answer)
        ends = {turn_end("chatml"), turn_end("plain")}
        text = any(isinstance(piece, str) and piece not in ends for piece in self.answer)
        return "both" if motion and text else "motion" if motion else "text"


def clean_prompt(text: str) -> str:
    """One sentence as the captions are written: single spaces, lower case, a full stop.

    Raises:
        MotionGPT3Error: the prompt is empty or longer than MAX_CHARACTERS.

    Warns:
        UserWarning: most letters are of another script than Latin.
    """
    if len(text) > MAX_CHARACTERS:
        raise MotionGPT3Error(f"the prompt has {len(text)} characters; at most {MAX_CHARACTERS} are read: shorten it")
    words = " ".join(printable(text).split()).lower()
    if not any(c.isalnum() for c in words):
        state = "has no words" if words else "is empty"
        raise MotionGPT3Error(f"the prompt {state}: describe a motion, such as 'a person walks forward'")
    letters = [c for c in words if c.isalpha()]
    latin = sum(unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if latin * 2 < len(letters):
        warnings.warn("the model was trained on English; this prompt is mostly in another script", stacklevel=3)
    return words if words[-1] in ".!?" else words + "."


def printable(text: str) -> str:
    """Text without control characters and chat markers such as <|im_end|>; line breaks stay."""
    kept = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in text)
    return _MARKER.sub(" ", kept)


def generation_prompt(caption: str, style: Style) -> str:
    """What stands before <start_of_motion> when a cleaned caption is to become a motion.

    The first token of a text is where language models park attention, so it is never a word of the caption.
    """
    before, after = _user_turn(style)
    return f"{before}{caption}{after}"


def chat_pieces(messages: Sequence[Message], style: Style) -> Pieces:
    """A conversation that waits for the assistant: user and assistant in turn, a user first and last.

    Words lose their control characters and chat markers; there is no system turn.

    Raises:
        MotionGPT3Error: no message, one that is empty, or roles out of turn.
    """
    if not messages:
        raise MotionGPT3Error("there is no message to answer")
    pieces: list[str | Slot] = []
    for index, message in enumerate(messages):
        if message.role != ("user", "assistant")[index % 2]:
            raise MotionGPT3Error(f"message {index + 1} is the {message.role}'s; users and assistants take turns")
        content = [p if isinstance(p, Slot) else _words(p, style) for p in message.content]
        if not any(isinstance(p, Slot) or p.strip() for p in content):
            raise MotionGPT3Error(f"message {index + 1} is empty: say what you want, or attach a motion")
        if message.role == "user":
            before, after = _user_turn(style)
            pieces += [before, *content, after]
        else:
            pieces += [*content, turn_end(style) + ("\n" if style == "chatml" else "")]
    if len(messages) % 2 == 0:
        raise MotionGPT3Error("the last message must be the user's")
    return joined(pieces)


def turn_end(style: Style) -> str:
    """What the assistant's answer ends with."""
    return "<|im_end|>" if style == "chatml" else "\n"


def joined(pieces: Iterable[str | Slot]) -> Pieces:
    """Pieces with neighbouring texts made one, empty ones left out, and no space before a motion."""
    result: list[str | Slot] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, str) and isinstance(last, str):
            result[-1] = last + piece
        else:
            if isinstance(piece, Slot) and isinstance(last, str):
                result[-1] = last.rstrip(" ")
            result.append(piece)
    return tuple(piece for piece in result if piece != "")


def _user_turn(style: Style) -> tuple[str, str]:
    """What stands before and after a user's words."""
    if style == "chatml":
        return "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    return "\n", "\n"


def _words(text: str, style: Style) -> str:
    text = printable(text)
    return text if style == "chatml" else text.replace("\n", " ")
