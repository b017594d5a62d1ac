"""Does the model answer instructions in the right way: with words, with a motion, or with both?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Modality
from motiongpt3.instructions.templates import HeldBack, heldback
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.chat import Reply

Ask = Callable[[list[dict[str, Any]]], "Reply"]
"""A conversation in, an answer out: `MotionGPT3.chat`."""


@dataclass(frozen=True)
class InstructionReport:
    """Each question with the kind of its answer."""

    asked: tuple[HeldBack, ...]
    answered: tuple[Modality | None, ...]
    texts: tuple[str, ...]

    @property
    def score(self) -> float:
        """Fraction of questions that were answered in the right way."""
        return sum(self.right(None)) / len(self.asked)

    def right(self, kind: Modality | None) -> list[bool]:
        """For each question that wants this kind of answer (None: any) whether it got it."""
        pairs = zip(self.asked, self.answered, strict=True)
        return [asked.expects == got for asked, got in pairs if kind in (None, asked.expects)]

    def table(self) -> str:
        """One line per kind with the questions that were answered in another way, then the total."""
        lines = [f"{'wanted':<8}{'asked':>6}{'right':>8}  answered otherwise"]
        for kind in get_args(Modality):
            right = self.right(kind)
            if right:
                wrong = [
                    f"{spoken(asked)!r} ({got or 'nothing'})"
                    for asked, got in zip(self.asked, self.answered, strict=True)
                    if asked.expects == kind != got
                ]
                lines.append(f"{kind:<8}{len(right):>6}{sum(right) / len(right):>8.1%}  {'; '.join(wrong)}".rstrip())
        lines.append(f"{len(self.asked)} questions: {self.score:.1%} answered in the right way")
        return "\n".join(lines)


def evaluate_instructions(
    ask: Ask,
    motions: Sequence[Motion],
    questions: Sequence[HeldBack] | None = None,
    progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
) -> InstructionReport:
    """Ask every question that was held back from training.

    Args:
        ask: answers a conversation.
        motions: what questions about motions attach, in turn.
        questions: None takes all that are held back.
        progress: wraps the questions, for a progress bar.

    Raises:
        MotionGPT3Error: there is no question, or no motion to attach.
    """
    questions = heldback() if questions is None else questions
    if not questions:
        raise MotionGPT3Error("there is no question to ask")
    if not motions:
        raise MotionGPT3Error("questions about motions need some to attach")
    answered, texts, used = [], [], 0
    for question in progress(questions):
        content: list[str | Motion] = []
        for piece in question.question:
            content.append(piece if isinstance(piece, str) else motions[used % len(motions)])
            used += not isinstance(piece, str)
        answer = ask([{"role": "user", "content": content}])
        answered.append(modality(answer))
        texts.append(answer.text)
    return InstructionReport(tuple(questions), tuple(answered), tuple(texts))


def modality(answer: Reply) -> Modality | None:
    """What an answer holds; None for an empty one."""
    if answer.motion is not None:
        return "both" if answer.text.strip() else "motion"
    return "text" if answer.text.strip() else None


def spoken(question: HeldBack) -> str:
    """The question in words, its motions as their names in angle brackets."""
    return "".join(piece if isinstance(piece, str) else f"<{piece.name}>" for piece in question.question)
