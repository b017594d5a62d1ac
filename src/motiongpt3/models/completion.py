"""Continuing, filling in and composing motions: windows that the model draws, fitted to frames that stay as they are.

The model draws at its own frame rate; a motion of another rate is read at the model's, and the new frames go back to
the motion's along a spline. Given frames are never computed again: they come back bit for bit. A motion longer than the
model's window is drawn window by window, each of which sees the last frames of the one before, so memory stays flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.network import Network
from motiongpt3.models.request import (
    DEFAULT_DRAW,
    DrawOptions,
    MotionRequest,
    Prompts,
    check_compose,
    check_inbetween,
    check_predict,
    check_seed,
)
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import ground_height
from motiongpt3.motion.resample import cubic, poses_at
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import Array
from motiongpt3.motion.stitching import CONTEXT, stitch

READ_SECONDS = 2.0
"""How much of a given motion the model reads beside a seam."""
SLACK = 6
"""Frames by which a drawn window may be early or late."""


class Propose(Protocol):
    """Draws a window of motion at the model's frame rate; anywhere, facing anywhere."""

    def __call__(
        self, before: Motion | None, after: Motion | None, frames: int, prompt: str | None, seed: int
    ) -> Motion:
        """`frames` frames that begin roughly with those of `before` and end roughly with those of `after`."""


@dataclass(frozen=True)
class Span:
    """A part of a composed motion: what was asked for, and its frames."""

    prompt: str
    start: int
    end: int


def proposals(model: Network, draw: DrawOptions, read: bool = True) -> Propose:
    """What draws windows.

    With `read` the model reads what is given. It was trained with one sentence for what was and what comes, so new
    words are followed better without: the new part is drawn from them, and everything else is left to the fitting. So
    it is, too, with a model of stage 1, which cannot read. Without words, someone who travels walks on and someone who
    does not stands.
    """

    def propose(before: Motion | None, after: Motion | None, frames: int, prompt: str | None, seed: int) -> Motion:
        if read and model.config.stage > 1 and before is not None:
            words = None if prompt is None else clean_prompt(prompt)
            return model.draw_window(before, after, frames, words, seed, draw)
        lead, trail = (max(0, len(given) - SLACK - CONTEXT) if given is not None else 0 for given in (before, after))
        words = prompt or ("a person walks forward." if _travels(before, after, frames) else "a person stands still.")
        request = MotionRequest(words, clean_prompt(words), frames - lead - trail, seed)
        [drawn] = model.draw_motions([request], draw)
        joints = np.concatenate([drawn.joints[:1].repeat(lead, 0), drawn.joints, drawn.joints[-1:].repeat(trail, 0)])
        return drawn.replace(joints=joints)

    return propose


def predict(
    model: Network,
    motion: Motion,
    seconds: float,
    prompt: str | None = None,
    draw: DrawOptions = DEFAULT_DRAW,
    propose: Propose | None = None,
) -> Motion:
    """See `MotionGPT3.predict`."""
    config = model.config
    check_predict(config, motion, seconds, prompt, draw)
    seed = check_seed(draw.seed)
    count = max(round(seconds * motion.fps), 1)
    given = _read(motion, config.fps, READ_SECONDS, backward=True)
    ground = ground_height(motion.joints, at_end=True)
    frames = math.ceil(count * config.fps / motion.fps - 1e-6)
    windows = _windows(frames, len(given), config)
    first, on = (propose or proposals(model, draw, reads) for reads in (prompt is None, True))
    track = [given]
    for number, size in enumerate(draw.progress(windows)):
        drawer = on if number else first
        track.append(_extend(track, len(given), size, drawer, prompt, seed + number, config.fps, ground))
    new = _after(
        np.concatenate([given[-CONTEXT:], *track[1:]]), min(len(given), CONTEXT), count, config.fps / motion.fps
    )
    return motion.replace(joints=np.concatenate([motion.joints, new]), caption=prompt or motion.caption)


def inbetween(
    model: Network,
    start: Motion,
    end: Motion,
    seconds: float,
    prompt: str | None = None,
    draw: DrawOptions = DEFAULT_DRAW,
    propose: Propose | None = None,
) -> Motion:
    """See `MotionGPT3.inbetween`."""
    config = model.config
    check_inbetween(config, start, end, seconds, prompt, draw)
    seed = check_seed(draw.seed)
    count = max(round(seconds * start.fps), 1)
    gap = max(1, round((count + 1) * config.fps / start.fps))
    rate = start.fps * gap / (count + 1)  # close to the model's, with the last given frame and the next on its grid
    before = _read(start, rate, READ_SECONDS, backward=True)
    after = _read(end, rate, READ_SECONDS, backward=False)
    ground = ground_height(start.joints, at_end=True)
    drawer = propose or proposals(model, draw)
    most = max(1, config.vae.max_frames - len(before) - len(after))
    windows = [*_windows(max(0, gap - 1 - most), len(before), config), min(gap - 1, most)]
    track = [before]
    for number, size in enumerate(draw.progress(windows)):
        if number < len(windows) - 1:
            track.append(_extend(track, len(before), size, drawer, prompt, seed + number, config.fps, ground))
        elif size:
            context = _tail(track, len(before))
            frames = len(context) + size + len(after)
            window = drawer(_seen(context, config.fps), _seen(after, config.fps), frames, prompt, seed + number)
            track.append(stitch(window.joints, size, context, after, ground, SLACK))
    known = before[-CONTEXT:]
    new = _after(np.concatenate([known, *track[1:], after[:CONTEXT]]), len(known), count, gap / (count + 1))
    joined = np.concatenate([start.joints, new, end.joints])
    return start.replace(joints=joined, caption=prompt or start.caption)


def compose(
    model: Network,
    prompts: Prompts,
    draw: DrawOptions = DEFAULT_DRAW,
    propose: Propose | None = None,
) -> tuple[Motion, list[Span]]:
    """See `MotionGPT3.compose`; also tells which frames belong to which prompt."""
    config = model.config
    asked = check_compose(config, prompts, draw)
    seed = check_seed(draw.seed)
    lengths = model.decide_frames([clean_prompt(text) for text, _ in asked])
    anew, on = (propose or proposals(model, draw, reads) for reads in (False, True))
    read = round(READ_SECONDS * config.fps)
    track: list[Array] = []
    spans: list[Span] = []
    number = end = 0
    for (text, frames), decided in draw.progress(list(zip(asked, lengths, strict=True))):
        wanted = decided if frames is None else frames
        spans.append(Span(text, end, end + wanted))
        end += wanted
        drawer = anew
        if not track:
            first = min(wanted, config.vae.max_frames)
            track.append(drawer(None, None, first, text, seed).joints[:first])
            wanted -= first
            number, drawer = 1, on
        for size in _windows(wanted, read, config):
            track.append(_extend(track, read, size, drawer, text, seed + number, config.fps, 0.0))
            number, drawer = number + 1, on
    caption = "; ".join(text for text, _ in asked)
    return Motion(np.concatenate(track), config.fps, caption, f"seed {seed}"), spans


def _read(motion: Motion, rate: float, seconds: float, *, backward: bool) -> Array:
    """(T, 22, 3) up to `seconds` at another rate, of the end with its last frame (backward) or of the beginning."""
    last = len(motion) - 1
    frames = min(round(seconds * rate), math.floor(last * rate / motion.fps + 1e-6) + 1)
    at = np.arange(frames) * (motion.fps / rate)
    if rate == motion.fps:
        return motion.joints[-frames:] if backward else motion.joints[:frames]
    wanted = math.ceil(at[-1]) + 8
    if backward:
        joints = motion.joints[-wanted:]
        return cubic(joints, len(joints) - 1 - at[::-1])
    return cubic(motion.joints[:wanted], at)


def _seen(given: Array, fps: float) -> Motion:
    """Given frames as the model knows people."""
    return Motion(to_skeleton(given), fps)


def _tail(track: Sequence[Array], frames: int) -> Array:
    """The last frames of what there is."""
    parts: list[Array] = []
    for part in reversed(track):
        parts.insert(0, part[-(frames - sum(map(len, parts))) :])
        if sum(map(len, parts)) == frames:
            break
    return np.concatenate(parts)


def _windows(frames: int, read: int, config: MotionGPT3Config) -> list[int]:
    """New frames of each window, about as many in each."""
    most = max(1, config.vae.max_frames - read - SLACK)
    count = -(-frames // most)
    return [frames // count + (number < frames % count) for number in range(count)]


def _extend(
    track: Sequence[Array],
    read: int,
    size: int,
    drawer: Propose,
    prompt: str | None,
    seed: int,
    fps: float,
    ground: float,
) -> Array:
    """`size` frames more."""
    context = _tail(track, read)
    window = drawer(_seen(context, fps), None, len(context) + size + SLACK, prompt, seed)
    return stitch(window.joints, size, context, None, ground, SLACK)


def _after(joints: Array, known: int, count: int, step: float) -> NDArray[np.float32]:
    """(count, 22, 3): frames `step` samples apart after the sample `known` - 1, with the bones as long as sampled."""
    return poses_at(joints, known - 1 + step * np.arange(1, count + 1))


def _travels(before: Motion | None, after: Motion | None, frames: int) -> bool:
    """Whether the pelvis goes, or has to go, at more than 0.3 m/s."""
    if before is None:
        return False
    if after is None:
        path, seconds = before.joints[-1, 0] - before.joints[0, 0], before.seconds
    else:
        path, seconds = after.joints[0, 0] - before.joints[-1, 0], frames / before.fps - before.seconds - after.seconds
    return float(np.linalg.norm(path[[0, 2]])) > 0.3 * seconds
