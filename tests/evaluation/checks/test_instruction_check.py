"""The instruction check counts kinds of answers, attaches motions in turn and names what was answered otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.instruction_check import evaluate_instructions, spoken
from motiongpt3.instructions.prompt import Slot
from motiongpt3.instructions.templates import HeldBack, heldback
from motiongpt3.motion.motion import Motion

MOTIONS = [Motion(np.zeros((20, 22, 3), np.float32), name=name) for name in ("one", "two")]
QUESTIONS = [question for kind in ("text", "motion", "both") for question in heldback() if question.expects == kind]


def test_answers_are_counted_by_kind() -> None:
    asked: list[list[Any]] = []

    def ask(conversation: list[dict[str, Any]]) -> Any:
        """Words for everything, and a motion too for every second question."""
        (message,) = conversation
        asked.append(message["content"])
        return SimpleNamespace(text="words", motion=MOTIONS[0] if len(asked) % 2 == 0 else None)

    few = [next(one for one in QUESTIONS if one.expects == kind) for kind in ("text", "motion", "both")]
    report = evaluate_instructions(ask, MOTIONS, [few[0], few[2], few[1]])
    assert report.answered == ("text", "both", "text")
    assert report.score == pytest.approx(2 / 3)
    assert report.right("motion") == [False]
    assert report.table().splitlines()[-1] == "3 questions: 66.7% answered in the right way"
    assert f"{spoken(few[1])!r} (text)" in report.table()


def test_motions_are_attached_in_turn() -> None:
    attached = [question for question in QUESTIONS if any(isinstance(piece, Slot) for piece in question.question)][:3]
    contents: list[list[Any]] = []

    def ask(conversation: list[dict[str, Any]]) -> Any:
        contents.append(conversation[0]["content"])
        return SimpleNamespace(text=" ", motion=None)

    report = evaluate_instructions(ask, MOTIONS, attached)
    given = [piece for content in contents for piece in content if isinstance(piece, Motion)]
    assert [motion.name for motion in given[:3]] == ["one", "two", "one"]
    assert report.answered == (None, None, None)
    assert report.score == 0


def test_nothing_to_ask_or_to_attach() -> None:
    with pytest.raises(MotionGPT3Error, match="no question"):
        evaluate_instructions(lambda _: None, MOTIONS, [])
    with pytest.raises(MotionGPT3Error, match="some to attach"):
        evaluate_instructions(lambda _: None, [], [HeldBack(("what?",), "text")])
