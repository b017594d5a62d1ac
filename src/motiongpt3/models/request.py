"""What is asked of a model, checked in one place and before anything heavy is loaded.

`DrawOptions` says how motions are drawn. The public tasks take its fields as keywords; everything below them takes it
whole. The `check_` functions refuse what a task cannot do, from the model's configuration alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.lengths import parse_length
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.motion.motion import MAX_FRAMES, Motion
from motiongpt3.motion.skeleton import HUMANML3D

if TYPE_CHECKING:
    from motiongpt3.models.config import MotionGPT3Config


Progress = Callable[[Sequence[Any]], Iterator[Any]]
"""Wraps a list that is worked through one by one, for a progress bar."""


@dataclass(frozen=True)
class DrawOptions:
    """How motions are drawn: what every task that makes motions takes."""

    seed: int | Sequence[int] = 0
    """Same seed, same machine, same motion; `generate` also takes one for each prompt."""
    guidance: float | None = None
    """How strictly to follow the words: 1 is plain, more is stricter and less varied; None: the model's own default."""
    steps: int | None = None
    """Sampling steps of the diffusion head; None: the model's own default."""
    progress: Progress = iter
    """Wraps the list of batches, windows or prompts that are drawn one after the other, for a progress bar."""


DEFAULT_DRAW = DrawOptions()
"""Seed 0 and the model's own guidance and steps."""


class DrawKeywords(TypedDict, total=False):
    """The fields of `DrawOptions` as keyword arguments."""

    seed: int | Sequence[int]
    guidance: float | None
    steps: int | None
    progress: Progress


class MotionRequest(NamedTuple):
    """A motion to draw: the user's words, the cleaned ones, duration in frames (None: the model decides) and seed."""

    prompt: str
    caption: str
    frames: int | None
    seed: int


def check_generate(
    config: MotionGPT3Config,
    prompts: Sequence[str],
    seconds: float | Sequence[float | None] | None,
    samples: int,
    draw: DrawOptions,
) -> tuple[list[MotionRequest], DrawOptions]:
    """The arguments of `MotionGPT3.generate`, checked against a model's sizes, and `draw` with the model's defaults.

    There are `samples` requests for each prompt, one after the other; sample k has the prompt's seed + k. Without
    `seconds` the length words of a prompt ("for three seconds", "with 80 frames") are followed.

    Raises:
        MotionGPT3Error: no prompt, an empty or endless one, or a number of the wrong kind or out of range.
    """
    if not prompts:
        raise MotionGPT3Error("there is no prompt")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise MotionGPT3Error(f"a prompt must be text, not {type(prompt).__name__}")
    captions = [clean_prompt(text) for text in prompts]
    samples = _whole("samples", samples)
    if not 1 <= samples <= 10_000:
        raise MotionGPT3Error(f"samples must be 1 to 10000, not {samples}")
    draw = check_draw(config, draw)
    durations = _each("seconds", seconds, len(captions))
    frames = [_frames(config, text, value) for text, value in zip(captions, durations, strict=True)]
    seeds = [check_seed(value) for value in _each("seed", draw.seed, len(captions))]
    each = zip(prompts, captions, frames, seeds, strict=True)
    return [MotionRequest(prompt, text, n, seed + k) for prompt, text, n, seed in each for k in range(samples)], draw


def _each(name: str, value: Any, count: int) -> list[Any]:
    """One value per prompt: a list has them, anything else stands for all."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise MotionGPT3Error(f"{name} is a list of {len(value)} for {count} prompts: give one for all or one for each")
    return list(value)


def _frames(config: MotionGPT3Config, caption: str, seconds: Any) -> int | None:
    """Seconds, or without them the caption's length words, as frames."""
    name = "seconds"
    if seconds is None:
        seconds, name = parse_length(caption, config.fps), f"the seconds in the prompt {caption[:60]!r}"
    if seconds is None:
        return None
    longer = "longer motions are made of several prompts: compose"
    return max(round(check_seconds(seconds, config.max_seconds, name, longer) * config.fps), 1)


def check_draw(config: MotionGPT3Config, draw: DrawOptions) -> DrawOptions:
    """Guidance and steps with the model's defaults for None; MotionGPT3Error for a number out of range.

    The seed is left to `check_seed`.
    """
    steps = config.steps if draw.steps is None else _whole("steps", draw.steps)
    guidance = config.guidance if draw.guidance is None else _number("guidance", draw.guidance)
    if not 0 <= guidance <= 100:
        raise MotionGPT3Error(f"guidance must be 0 to 100, not {guidance}")
    if not 1 <= steps <= 1000:
        raise MotionGPT3Error(f"steps must be 1 to 1000, not {steps}")
    return replace(draw, guidance=guidance, steps=steps)


def check_seed(seed: Any) -> int:
    """A seed as an int; MotionGPT3Error for what is none."""
    number = _whole("seed", seed)
    if not 0 <= number < 2**62:
        raise MotionGPT3Error(f"seed must be a whole number from 0 to 2^62, not {number}")
    return number


def check_seconds(seconds: float, most: float, name: str = "seconds", way_on: str = "") -> float:
    """A duration as a float; MotionGPT3Error unless it is a number above 0 and at most `most`, where more has a way."""
    seconds = _number(name, seconds)
    if not (math.isfinite(seconds) and 0 < seconds <= most):
        more = f"; {way_on}" if way_on and seconds > most else ""
        raise MotionGPT3Error(f"{name} must be more than 0 and at most {most:g}, not {seconds:g}{more}")
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


Prompts = Sequence[str | tuple[str, float]]
"""What is composed: sentences, or (sentence, seconds)."""


def check_predict(
    config: MotionGPT3Config, motion: Motion, seconds: float, prompt: str | None, draw: DrawOptions
) -> None:
    """Refuse what `MotionGPT3.predict` cannot do, from the model's sizes alone.

    Raises:
        MotionGPT3Error: see `MotionGPT3.predict`.
    """
    _check_words(config, prompt, draw)
    _check_given(config, motion, "the motion")
    check_seconds(seconds, (MAX_FRAMES - len(motion)) / motion.fps)


def check_inbetween(
    config: MotionGPT3Config, start: Motion, end: Motion, seconds: float, prompt: str | None, draw: DrawOptions
) -> None:
    """Refuse what `MotionGPT3.inbetween` cannot do, as `check_predict`."""
    _check_words(config, prompt, draw)
    _check_given(config, start, "the motion before the gap")
    _check_given(config, end, "the motion after the gap")
    if start.fps != end.fps:
        raise MotionGPT3Error(
            f"the motions have {start.fps:g} and {end.fps:g} frames per second; resample one of them first"
        )
    check_seconds(seconds, (MAX_FRAMES - len(start) - len(end)) / start.fps)


def check_compose(config: MotionGPT3Config, prompts: Prompts, draw: DrawOptions) -> list[tuple[str, int | None]]:
    """Each prompt with its frames at the model's rate, None where the model decides.

    Raises:
        MotionGPT3Error: see `MotionGPT3.compose`.
    """
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise MotionGPT3Error("compose takes a list of prompts")
    asked: list[tuple[str, int | None]] = []
    for item in prompts:
        text, seconds = (item, None) if isinstance(item, str) else _pair(item)
        if seconds is not None:
            check_seconds(seconds, MAX_FRAMES / config.fps)
        asked.append((text, None if seconds is None else max(round(seconds * config.fps), 1)))
    check_generate(config, [text for text, _ in asked], None, 1, draw)
    if sum(frames or config.vae.max_frames for _, frames in asked) > MAX_FRAMES:
        raise MotionGPT3Error(f"the prompts ask for more than the {MAX_FRAMES} frames a motion may have")
    return asked


def _check_words(config: MotionGPT3Config, prompt: str | None, draw: DrawOptions) -> None:
    check_generate(config, ["someone moves" if prompt is None else prompt], None, 1, draw)


def check_motion(motion: Any, name: str) -> None:
    """Refuse what is no motion or has another skeleton; `name` says which one."""
    if not isinstance(motion, Motion):
        raise MotionGPT3Error(f"{name} must be a Motion, not {type(motion).__name__}")
    if motion.skeleton != HUMANML3D:
        raise MotionGPT3Error(f"{name} has another skeleton than the 22 joints of HumanML3D")


def too_short(config: MotionGPT3Config, motion: Motion, name: str) -> MotionGPT3Error:
    """The refusal of a motion of which the model reads more."""
    least = config.vae.min_frames / config.fps
    return MotionGPT3Error(f"{name} has {motion.seconds:.3g} s; the model reads {least:g} s or more")


def _check_given(config: MotionGPT3Config, motion: Motion, name: str) -> None:
    check_motion(motion, name)
    if motion.seconds < config.vae.min_frames / config.fps - 1e-6:
        raise too_short(config, motion, name)


def _pair(item: Any) -> tuple[str, float]:
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    raise MotionGPT3Error(f"each prompt must be text or (text, seconds), not {str(item)[:60]!r}")
