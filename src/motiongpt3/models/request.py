"""What is asked of a model, checked in one place and before anything heavy is loaded."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import clean_prompt

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3Config


@dataclass(frozen=True)
class Request:
    """Cleaned captions, duration in frames (None: the model decides), and how to draw."""

    captions: list[str]
    frames: int | None
    samples: int
    seed: int
    guidance: float
    steps: int


def check_request(
    config: MotionGPT3Config,
    prompts: Sequence[str],
    seconds: float | None = None,
    samples: int = 1,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
) -> Request:
    """The arguments of `MotionGPT3.generate`, checked against a model's sizes; None takes the model's default.

    Raises:
        MotionGPT3Error: no prompt, an empty or endless one, or a number of the wrong kind or out of range.
    """
    if not prompts:
        raise MotionGPT3Error("there is no prompt")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise MotionGPT3Error(f"a prompt must be text, not {type(prompt).__name__}")
    captions = [clean_prompt(text) for text in prompts]
    samples, seed = _whole("samples", samples), _whole("seed", seed)
    steps = config.steps if steps is None else _whole("steps", steps)
    guidance = config.guidance if guidance is None else _number("guidance", guidance)
    if not 1 <= samples <= 10_000:
        raise MotionGPT3Error(f"samples must be 1 to 10000, not {samples}")
    if not 0 <= seed < 2**62:
        raise MotionGPT3Error(f"seed must be a whole number from 0 to 2^62, not {seed}")
    if not 0 <= guidance <= 100:
        raise MotionGPT3Error(f"guidance must be 0 to 100, not {guidance}")
    if not 1 <= steps <= 1000:
        raise MotionGPT3Error(f"steps must be 1 to 1000, not {steps}")
    frames = None
    if seconds is not None:
        seconds = check_seconds(seconds, config.max_seconds)
        frames = max(round(seconds * config.fps), 1)
    return Request(captions, frames, samples, seed, guidance, steps)


def check_seconds(seconds: float, most: float) -> float:
    """A duration as a float; MotionGPT3Error unless it is a number above 0 and at most `most`."""
    seconds = _number("seconds", seconds)
    if not (math.isfinite(seconds) and 0 < seconds <= most):
        raise MotionGPT3Error(f"seconds must be more than 0 and at most {most:g}, not {seconds:g}")
    return seconds


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise MotionGPT3Error(f"{name} must be a whole number, not {value!r}") from None


def _number(name: str, value: Any) -> float:
    if not isinstance(value, Real):
        raise MotionGPT3Error(f"{name} must be a number, not {value!r}")
    return float(value)
