"""What is asked of a model that continues, fills in or composes, checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.request import check_request, check_seconds
from motiongpt3.motion.motion import MAX_FRAMES, Motion
from motiongpt3.motion.skeleton import HUMANML3D

if TYPE_CHECKING:
    from motiongpt3.models.config import MotionGPT3Config

Prompts = Sequence[str | tuple[str, float]]


def check_predict(
    config: MotionGPT3Config,
    motion: Motion,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
) -> None:
    """Refuse what `MotionGPT3.predict` cannot do, from the model's sizes alone.

    Raises:
        MotionGPT3Error: see `MotionGPT3.predict`.
    """
    _check_words(config, prompt, seed, guidance, steps)
    _check_given(config, motion, "the motion")
    check_seconds(seconds, (MAX_FRAMES - len(motion)) / motion.fps)


def check_inbetween(
    config: MotionGPT3Config,
    start: Motion,
    end: Motion,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
) -> None:
    """Refuse what `MotionGPT3.inbetween` cannot do, as `check_predict`."""
    _check_words(config, prompt, seed, guidance, steps)
    _check_given(config, start, "the motion before the gap")
    _check_given(config, end, "the motion after the gap")
    if start.fps != end.fps:
        raise MotionGPT3Error(
            f"the motions have {start.fps:g} and {end.fps:g} frames per second; resample one of them first"
        )
    check_seconds(seconds, (MAX_FRAMES - len(start) - len(end)) / start.fps)


def check_compose(
    config: MotionGPT3Config, prompts: Prompts, seed: int = 0, guidance: float | None = None, steps: int | None = None
) -> list[tuple[str, int | None]]:
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
    check_request(config, [text for text, _ in asked], None, 1, seed, guidance, steps)
    if sum(frames or config.vae.max_frames for _, frames in asked) > MAX_FRAMES:
        raise MotionGPT3Error(f"the prompts ask for more than the {MAX_FRAMES} frames a motion may have")
    return asked


def _check_words(
    config: MotionGPT3Config, prompt: str | None, seed: int, guidance: float | None, steps: int | None
) -> None:
    check_request(config, ["someone moves" if prompt is None else prompt], None, 1, seed, guidance, steps)


def _check_given(config: MotionGPT3Config, motion: Motion, what: str) -> None:
    if not isinstance(motion, Motion):
        raise MotionGPT3Error(f"{what} must be a Motion, not {type(motion).__name__}")
    if motion.skeleton != HUMANML3D:
        raise MotionGPT3Error(f"{what} has another skeleton than the 22 joints of HumanML3D")
    least = config.vae.min_frames / config.fps
    if motion.seconds < least - 1e-6:
        raise MotionGPT3Error(f"{what} has {motion.seconds:.3g} s; the model reads {least:g} s or more")


def _pair(item: Any) -> tuple[str, float]:
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    raise MotionGPT3Error(f"each prompt must be text or (text, seconds), not {str(item)[:60]!r}")
