"""Continuing, filling in and composing motions: windows that the model draws, fitted to frames that stay as they are.

The model draws at its own frame rate; a motion of another rate is read at the model's, and the new frames go back to
the motion's along a spline. Given frames are never computed again: they come back bit for bit. A motion longer than the
model's window is drawn window by window, each of which sees the last frames of the one before, so memory stays flat.
"""

from __future__ import annotations

import math
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
    fps = model.config.fps
    check_predict(model.config, motion, seconds, prompt, draw)
    seed = check_seed(draw.seed)
    count = max(round(seconds * motion.fps), 1)
    given = _read(motion, fps, READ_SECONDS, backward=True)
    track = _Track(model.config, [given], len(given), ground_height(motion.joints, at_end=True))
    windows = track.windows(math.ceil(count * fps / motion.fps - 1e-6))
    first, on = (propose or proposals(model, draw, reads) for reads in (prompt is None, True))
    for number, size in enumerate(draw.progress(windows)):
        track.extend(on if number else first, size, prompt, seed + number)
    known = given[-CONTEXT:]
    new = _after(np.concatenate([known, *track.parts[1:]]), len(known), count, fps / motion.fps)
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
    fps = model.config.fps
    check_inbetween(model.config, start, end, seconds, prompt, draw)
    seed = check_seed(draw.seed)
    count = max(round(seconds * start.fps), 1)
    gap = max(1, round((count + 1) * fps / start.fps))
    rate = start.fps * gap / (count + 1)  # close to the model's, with the last given frame and the next on its grid
    before = _read(start, rate, READ_SECONDS, backward=True)
    after = _read(end, rate, READ_SECONDS, backward=False)
    track = _Track(model.config, [before], len(before), ground_height(start.joints, at_end=True))
    most = max(1, model.config.vae.max_frames - len(before) - len(after))
    windows = [*track.windows(max(0, gap - 1 - most)), min(gap - 1, most)]
    proposal = propose or proposals(model, draw)
    for number, size in enumerate(draw.progress(windows)):
        if size:
            last = number == len(windows) - 1
            track.extend(proposal, size, prompt, seed + number, after if last else None)
    known = before[-CONTEXT:]
    joints = np.concatenate([known, *track.parts[1:], after[:CONTEXT]])
    new = _after(joints, len(known), count, gap / (count + 1))
    return start.replace(joints=np.concatenate([start.joints, new, end.joints]), caption=prompt or start.caption)


def compose(
    model: Network, prompts: Prompts, draw: DrawOptions = DEFAULT_DRAW, propose: Propose | None = None
) -> tuple[Motion, list[Span]]:
    """See `MotionGPT3.compose`; also tells which frames belong to which prompt."""
    config = model.config
    asked = check_compose(config, prompts, draw)
    seed = check_seed(draw.seed)
    lengths = model.decide_frames([clean_prompt(text) for text, _ in asked])
    anew, on = (propose or proposals(model, draw, reads) for reads in (False, True))
    track = _Track(config, [], round(READ_SECONDS * config.fps), 0.0)
    spans: list[Span] = []
    number = end = 0
    for (text, frames), decided in draw.progress(list(zip(asked, lengths, strict=True))):
        wanted = decided if frames is None else frames
        spans.append(Span(text, end, end + wanted))
        end += wanted
        proposal = anew
        if not track.parts:
            first = min(wanted, config.vae.max_frames)
            track.parts.append(anew(None, None, first, text, seed).joints[:first])
            wanted -= first
            number, proposal = 1, on
        for size in track.windows(wanted):
            track.extend(proposal, size, text, seed + number)
            number, proposal = number + 1, on
    caption = "; ".join(text for text, _ in asked)
    return Motion(np.concatenate(track.parts), config.fps, caption, f"seed {seed}"), spans


class _Track:
    """Motion at the model's rate that grows window by window.

    Args:
        config: of the model.
        parts: what there is, each (T, 22, 3).
        read: last frames that the next window sees.
        ground: height of the floor.
    """

    def __init__(self, config: MotionGPT3Config, parts: list[Array], read: int, ground: float) -> None:
        self.config, self.parts, self.read, self.ground = config, parts, read, ground

    def windows(self, frames: int) -> list[int]:
        """New frames of each window, about as many in each."""
        most = max(1, self.config.vae.max_frames - self.read - SLACK)
        count = -(-frames // most)
        return [frames // count + (number < frames % count) for number in range(count)]

    def extend(self, propose: Propose, size: int, prompt: str | None, seed: int, after: Array | None = None) -> None:
        """`size` frames more; `after` are the frames that follow them."""
        last: list[Array] = []
        missing = self.read
        for part in reversed(self.parts):
            last.insert(0, part[-missing:])
            missing -= len(last[0])
            if not missing:
                break
        before = np.concatenate(last)
        frames = len(before) + size + (SLACK if after is None else len(after))
        # The model knows people of one skeleton; what is new is fitted to the given bones.
        start = Motion(to_skeleton(before), self.config.fps)
        end = None if after is None else Motion(to_skeleton(after), self.config.fps)
        window = propose(start, end, frames, prompt, seed)
        self.parts.append(stitch(window.joints, size, before, after, self.ground, SLACK))


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
