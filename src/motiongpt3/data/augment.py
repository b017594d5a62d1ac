"""More training examples from the same clips: joined in time, layered, stretched, with captions that say so.

Everything here is decided by a seed: the same clips and the same seed give the same examples.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from motiongpt3.data.captions import (
    LOWER_ONLY,
    LOWER_SHARE,
    PHRASES,
    RAISES,
    UPPER_ONLY,
    UPPER_SHARE,
    WAVES,
    asked_pairs,
    counts,
    join_captions,
    join_predicates,
    layer_captions,
    layer_predicates,
    parse,
)
from motiongpt3.data.clips import LICENSE_JOINT, Clip, PackedClips
from motiongpt3.data.labels import base_action
from motiongpt3.data.time_stretch import extend, lasting_captions, modes, speed, time_warp, turning, warped_captions
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import Part, best_cut, hold_pose, join, layer
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.poses import align, smooth_heading
from motiongpt3.motion.skeleton import Array

__all__ = [
    "Captioned",
    "Example",
    "extend",
    "find_locomotion",
    "find_upper_body",
    "join_captions",
    "lasting_captions",
    "layer_captions",
    "make_extended_pool",
    "make_joined_pool",
    "make_layered_pool",
    "make_relaxed_pool",
    "modes",
    "time_warp",
    "warped_captions",
]

Example = tuple[NDArray[np.float32], list[str]]
Groups = dict[str, list["Captioned"]]

_SUBJECTS = (
    "a person", "a person", "the person", "someone", "somebody", "a human", "this person", "a figure", "an individual",
)  # fmt: skip
_LONGEST_CAPTION = 24  # words
_POSED = re.compile(r"^UIPRMD_")  # exercises with the hands held up: odd neighbours for everything else
_LOCOMOTION = re.compile(
    r"(walk|run)( forward| backward| diagonally (left|right)|, turn (left|right)| and turn (left|right)| turning "
    r"(left|right)| veering (left|right)| to the (left|right)|s? with turns)"
)
_UPPER = re.compile(r"(wave|raise) ((left|right) hand|both hands)")


class Captioned(NamedTuple):
    """A clip with its joints.

    Attributes:
        id: name of the clip.
        short: its action in a few words, such as "walk forward energetically".
        captions: sentences.
        crop_safe: for each caption, whether it is true of any part of the clip.
        joints: (T, 22, 3) metres, 20 fps, y up.
    """

    id: str
    short: str
    captions: Sequence[str]
    crop_safe: Sequence[bool]
    joints: Array


class _Piece(NamedTuple):
    """Some frames of a clip: what it is, and predicates that are true of it."""

    action: str
    joints: Array
    predicates: list[str]
    phrases: list[str]


def find_locomotion(clips: Sequence[Captioned]) -> Groups:
    """Clips of walking and running, turns and curves included, by base action."""
    return _grouped(clips, lambda clip: _LOCOMOTION.fullmatch(base_action(clip.short)) is not None)


def find_upper_body(clips: Sequence[Captioned]) -> Groups:
    """Clips of waving and of raising hands while standing, by base action."""
    return _grouped(clips, lambda clip: _UPPER.fullmatch(base_action(clip.short)) is not None)


def make_joined_pool(clips: Sequence[Captioned], count: int, seed: int, max_frames: int = 200) -> list[Example]:
    """`count` motions of two actions one after the other, one in twelve of three, with captions.

    Two thirds are pairs that people ask for (walk then wave, run then stop, walk then sit …), all such pairs alike;
    the rest are pairs of any two actions, drawn by the square root of how many clips an action has. A clip is cropped
    only where captions allow it. Half the examples are about four seconds long. Fewer are returned only if the clips
    hold too little to pair.

    Returns:
        ((T, 22, 3) float32, captions) each, T <= max_frames, facing +z over the origin at first, on the floor y = 0.
    """
    rng = np.random.default_rng(seed)
    stock = _Stock(clips)
    pairs = [(a, b) for a, b in asked_pairs() if stock.has(a) and stock.has(b)]
    out: list[Example] = []
    for _ in range(6 * count):
        if len(out) == count:
            break
        triple = rng.random() < 1 / 12
        total = int(rng.integers(70, 100) if rng.random() < 0.5 else rng.integers(90, max(max_frames, 91) + 1))
        total = min(max_frames, total + 40 * triple)
        if pairs and rng.random() < 2 / 3:
            actions = list(pairs[int(rng.integers(len(pairs)))])
        else:
            actions = [stock.any_action(rng), stock.any_action(rng)]
        if triple:
            actions.append(stock.any_action(rng))
        example = _joined(stock, actions, total, max_frames, rng)
        if example is not None:
            out.append(example)
    return out


def make_layered_pool(clips: Sequence[Captioned], count: int, seed: int, max_frames: int = 200) -> list[Example]:
    """`count` walks and runs (also turning, backward) with a wave or raised hands on top, as `make_joined_pool`."""
    rng = np.random.default_rng(seed)
    lowers, uppers = _weights(find_locomotion(clips), LOWER_SHARE), _weights(find_upper_body(clips), UPPER_SHARE)
    stock = _Stock(clips)
    out: list[Example] = []
    if not lowers or not uppers:
        return out
    for _ in range(6 * count):
        if len(out) == count:
            break
        total = min(max_frames, int(rng.integers(72, 92) if rng.random() < 0.5 else rng.integers(50, 161)))
        legs = stock.piece(_draw(lowers, rng), total, rng)
        gesture = stock.piece(_draw(uppers, rng), total, rng)
        if legs is None or gesture is None:
            continue
        example = _layered(legs, gesture, total, rng)
        if example is not None:
            out.append(example)
    return out


def make_extended_pool(clips: Sequence[Captioned], count: int, seed: int, max_frames: int = 200) -> list[Example]:
    """`count` clips shorter than four seconds made 70 to 100 frames long, drawn evenly by base action.

    Walks and runs go on, gestures are repeated or wait before and after; captions that count are left out.
    """
    rng = np.random.default_rng(seed)
    groups = _grouped(clips, lambda clip: 16 <= len(clip.joints) < 70 and not _POSED.match(clip.id))
    weights = _weights(groups)
    out: list[Example] = []
    if not weights:
        return out
    for _ in range(6 * count):
        if len(out) == count:
            break
        group = groups[_draw(weights, rng)]
        clip = group[int(rng.integers(len(group)))]
        longer = extend(clip.joints, min(max_frames, int(rng.integers(70, 101))), rng)
        if longer is None:
            continue
        joints, mode = longer
        captions = lasting_captions(clip.captions, clip.crop_safe, mode)
        if captions:
            out.append((_grounded(joints), captions))
    return out


def make_relaxed_pool(clips: Sequence[Captioned], count: int, seed: int) -> list[Example]:
    """`count` squats, seats and lunges of the rehabilitation clips, whose hands are held up, with arms that hang.

    Half of them are made 70 to 100 frames long.
    """
    rng = np.random.default_rng(seed)
    groups = _grouped(clips, lambda clip: bool(_POSED.match(clip.id)) and base_action(clip.short) in _LEG_EXERCISES)
    stock, weights = _Stock(clips), _weights(groups)
    out: list[Example] = []
    if not weights or not stock.resting:
        return out
    for _ in range(3 * count):
        if len(out) == count:
            break
        group = groups[_draw(weights, rng)]
        clip = group[int(rng.integers(len(group)))]
        captions = [text for text in clip.captions if not _HANDS.search(text)]
        if not captions:
            continue
        joints = stock.relaxed(clip.joints, rng)
        longer = extend(joints, int(rng.integers(70, 101)), rng) if rng.random() < 0.5 and len(joints) < 70 else None
        if longer is not None:
            lasting = lasting_captions(captions, [True] * len(captions), longer[1])
            joints, captions = (longer[0], lasting) if lasting else (joints, captions)
        out.append((_grounded(joints), captions))
    return out


_LEG_EXERCISES = {
    "sit and stand", "deep squat", "side lunge right", "side lunge left", "lunge right forward", "lunge left forward",
}  # fmt: skip
_HANDS = re.compile(r"\b(arms?|hands?|elbows?|fists?|wrists?|forearms?|overhead|stick|bar|poor|incorrect\w*)\b")


class _Stock:
    """The clips by action, and pieces of them at the wanted length."""

    def __init__(self, clips: Sequence[Captioned]) -> None:
        usable = [clip for clip in clips if not _POSED.match(clip.id) and len(clip.joints) >= 16]
        self.groups = _grouped(usable, lambda clip: True)
        self.weights = _weights({name: group for name, group in self.groups.items() if len(group) > 2} or self.groups)
        self.resting = [clip for name in (*WAVES, *RAISES) for clip in self.groups.get(name, [])]
        self.seats = [clip for clip in clips if _POSED.match(clip.id) and base_action(clip.short) == "sit and stand"]

    def has(self, action: str) -> bool:
        if action == "stop":
            return bool(self.resting)
        if action == "sit down":
            return bool(self.resting and self.seats)
        return action in self.groups

    def any_action(self, rng: np.random.Generator) -> str:
        return _draw(self.weights, rng)

    def relaxed(self, joints: Array, rng: np.random.Generator) -> NDArray[np.float32]:
        """(T, 22, 3) the same motion with the arms of somebody who stands and waits."""
        rest = self.resting[int(rng.integers(len(self.resting)))]
        waiting = hold_pose(rest.joints[0], len(joints), sway=0.01, phase=float(rng.uniform(0, 6)))
        return layer(joints, waiting, "arms").astype(np.float32)

    @staticmethod
    def _croppable(action: str) -> bool:
        """Whether a part of the action is still the action: not of a squat or of lying down."""
        return action not in PHRASES or bool(_LOCOMOTION.fullmatch(action) or _UPPER.fullmatch(action))

    def piece(self, action: str, frames: int, rng: np.random.Generator, need: int = 16) -> _Piece | None:
        """About `frames` frames of an action, cropped only where captions stay true; None if that cannot be had."""
        phrases = list(PHRASES.get(action, ()))
        if action == "stop" and self.resting:
            rest = self.resting[int(rng.integers(len(self.resting)))]
            pose = hold_pose(
                rest.joints[0], int(rng.integers(24, max(25, min(frames, 60)) + 1)), phase=rng.uniform(0, 6)
            )
            return _Piece(action, pose, [], phrases)
        if action == "sit down" and self.seats and self.resting:
            clip = self.seats[int(rng.integers(len(self.seats)))]
            seated = int(clip.joints[:, 0, 1].argmin()) + 1
            joints = self.relaxed(clip.joints[:seated], rng)
            wait = int(rng.integers(8, 30))
            return _Piece(action, join(joints, hold_pose(joints[-1], wait)), [], phrases)
        group = self.groups.get(action)
        if not group:
            return None
        clip = group[int(rng.integers(len(group)))]
        joints, captions, spare = clip.joints, list(clip.captions), len(clip.joints) - frames
        if spare > 0:
            if action.startswith("walk and turn"):
                joints, captions = _turn(joints), []
                if len(joints) > 1.4 * frames:
                    return None
            elif not self._croppable(action):
                if len(joints) > max(150, 1.8 * frames):
                    return None
            elif any(clip.crop_safe) and frames >= need:
                begin = 0 if not _LOCOMOTION.fullmatch(action) else int(rng.integers(spare + 1))
                if action.startswith("wave") and spare > 20 and rng.random() < 0.3:
                    begin = int(rng.integers(20, spare + 1))
                joints = joints[begin : begin + frames]
                captions = [text for text, safe in zip(captions, clip.crop_safe, strict=True) if safe]
                if action.startswith("raise") and frames < 0.5 * len(clip.joints):
                    return None
            else:
                return None
        if phrases and not _shows(action, joints):
            return None
        sentences = [parse(text) for text in captions]
        return _Piece(action, joints, [s.predicate for s in sentences if s is not None], phrases)


def _joined(stock: _Stock, actions: list[str], total: int, limit: int, rng: np.random.Generator) -> Example | None:
    share = rng.uniform(0.4, 0.6) if len(actions) == 2 else 0.36
    pieces: list[_Piece] = []
    left = total
    for index, action in enumerate(actions):
        last = index == len(actions) - 1
        piece = stock.piece(action, left if last else max(24, int(total * share)), rng)
        if piece is None or not (piece.predicates or piece.phrases):
            return None
        pieces.append(piece)
        left = max(24, left - len(piece.joints))
    if sum(len(piece.joints) for piece in pieces) > limit:
        return None
    joints = pieces[0].joints
    for before, after in pairwise(pieces):
        if not (_upright(joints[-1]) and _upright(after.joints[0])):
            return None
        end, start = best_cut(joints, after.joints, _slack(before), _slack(after))
        joints = join(joints[:end], after.joints[start:])
    captions = []
    for _ in range(6):
        words = [_predicate(piece, rng) for piece in pieces]
        subject = str(rng.choice(_SUBJECTS))
        if len(words) == 3:
            text = f"{subject} {words[0]}, then {words[1]} and then {words[2]}."
        else:
            text = join_predicates(subject, words[0], words[1], rng)
        if len(text.split()) <= _LONGEST_CAPTION + 8 * (len(words) - 2):
            captions.append(text)
    captions = list(dict.fromkeys(captions))
    return (_grounded(joints), captions) if captions else None


def _layered(legs: _Piece, gesture: _Piece, total: int, rng: np.random.Generator) -> Example | None:
    lower, upper = legs.joints, gesture.joints
    if len(lower) < total and legs.action in ("walk forward", "run forward"):
        longer = extend(lower, total, rng, "loop") if modes(lower) else None
        if longer:
            lower = longer[0]
            legs = legs._replace(predicates=[text for text in legs.predicates if not counts(text)])
    if len(lower) < 30:
        return None
    one_arm = "right arm" if "right" in gesture.action else "left arm" if "left" in gesture.action else "arms"
    part: Part = "upper" if rng.random() < 0.25 else one_arm  # type: ignore[assignment]
    if len(upper) >= len(lower):
        joints = layer(lower, upper, part)
    else:
        joints = layer(lower, upper, part, start=int(rng.integers(len(lower) - len(upper) + 1)))
    if not _shows(gesture.action, joints):
        return None
    lowers = [text for text in legs.predicates if not LOWER_ONLY.search(text) and len(text.split()) < 10]
    uppers = [text for text in gesture.predicates if not UPPER_ONLY.search(text) and len(text.split()) < 10]
    captions = []
    for _ in range(8):
        a = str(rng.choice(legs.phrases if legs.phrases and (not lowers or rng.random() < 0.5) else lowers or [""]))
        b = str(rng.choice(gesture.phrases if not uppers or rng.random() < 0.5 else uppers))
        text = layer_predicates(str(rng.choice(_SUBJECTS)), a, b, rng) if a else None
        if text is not None and len(text.split()) <= _LONGEST_CAPTION:
            captions.append(text)
    captions = list(dict.fromkeys(captions))[:6]
    return (_grounded(joints), captions) if captions else None


def _predicate(piece: _Piece, rng: np.random.Generator) -> str:
    short = [text for text in piece.predicates if len(text.split()) <= 10] or piece.predicates
    if piece.phrases and (not short or rng.random() < 0.5):
        return str(rng.choice(piece.phrases))
    return str(rng.choice(short))


def _shows(action: str, joints: Array) -> bool:
    """Whether the crop still shows what the phrases of its action say."""
    if action.startswith("walk and turn"):
        return turning(joints) * (1 if action.endswith("left") else -1) > 0.8
    if action in ("walk forward", "run forward"):
        return speed(joints) > 0.4 and abs(turning(joints)) < 0.6
    if _UPPER.fullmatch(action):
        high = (joints[:, [20, 21], 1] > joints[:, [16, 17], 1] - 0.05).sum(axis=0)
        sides = (True, True) if "both" in action else ("left" in action, "right" in action)
        return all(int(frames) >= 6 for frames, side in zip(high, sides, strict=True) if side)
    return True


def _turn(joints: Array) -> Array:
    """The part of a walk in which the person turns, with half a second before and after."""
    yaw = smooth_heading(joints)
    done = (yaw - yaw[0]) / (yaw[-1] - yaw[0] + 1e-9)
    begin, end = int((done < 0.1).nonzero()[0].max(initial=0)), int((done < 0.9).nonzero()[0].max(initial=0))
    return joints[max(0, begin - 10) : end + 11]


def _slack(piece: _Piece) -> int:
    straight = piece.action in ("walk forward", "run forward", "walk backward")
    return min(20, len(piece.joints) // 4) if straight else 0


def _upright(pose: Array) -> bool:
    """Whether somebody stands, (22, 3): pelvis high above the feet, neck above the pelvis."""
    feet = pose[[7, 8, 10, 11], 1].min()
    return bool(pose[0, 1] - feet > 0.72 and pose[12, 1] - pose[0, 1] > 0.35)


def _grounded(joints: Array) -> NDArray[np.float32]:
    """(T, 22, 3) facing +z over the origin at first, lowest joint at y = 0."""
    moved = align(joints, (0.0, 0.0), 0.0)
    moved[..., 1] -= moved[..., 1].min()
    return moved.astype(np.float32)


def _grouped(clips: Sequence[Captioned], keep: Callable[[Captioned], bool]) -> Groups:
    groups: Groups = defaultdict(list)
    for clip in clips:
        if clip.captions and not (_POSED.match(clip.id) and _UPPER.fullmatch(base_action(clip.short))) and keep(clip):
            groups[base_action(clip.short)].append(clip)
    return dict(sorted(groups.items()))


def _weights(groups: Groups, share: dict[str, float] | None = None) -> dict[str, float]:
    """How often each action is drawn: as `share` says (others 0.5), or by the square root of its number of clips."""
    raw = {name: (share.get(name, 0.5) if share else float(np.sqrt(len(group)))) for name, group in groups.items()}
    total = sum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def _draw(weights: dict[str, float], rng: np.random.Generator) -> str:
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]


# A pool of examples made from the recorded clips, as a second packed file beside them.

MAKERS: dict[str, Callable[[list[Captioned], int, int], list[Example]]] = {
    "joined": make_joined_pool,
    "layered": make_layered_pool,
    "extended": make_extended_pool,
    "relaxed": make_relaxed_pool,
}


@dataclass(frozen=True)
class PoolSizes:
    """Examples of each kind."""

    joined: int = 3000
    """Two or three actions one after the other."""
    layered: int = 2000
    """Walks and runs with a wave or raised hands."""
    extended: int = 3000
    """Short clips made four seconds long."""
    relaxed: int = 600
    """Squats, seats and lunges with hanging arms."""


def make_pool(
    source: str | Path,
    out: str | Path,
    sizes: PoolSizes | None = None,
    seed: int = 0,
    workers: int | None = None,
    licenses: list[str] | None = None,
) -> PackedClips:
    """Write a pool made from the train clips of a packed file.

    Args:
        source: the packed file, or its folder.
        out: the file to write.
        sizes: how many examples of each kind.
        seed: decides all of them, whatever the number of workers.
        workers: processes; None takes one per core.
        licenses: use only clips under these licences; None uses all. Every example carries the licences of all clips
            that were used, so training can filter by them.
    """
    pack = PackedClips.open(source)
    rows = [i for i in pack.split("train") if pack.clips[i].allowed(licenses)]
    if not rows:
        raise MotionGPT3Error(f"{source} has no train clips{' under these licences' if licenses else ''}")
    license = LICENSE_JOINT.join(sorted({name for i in rows for name in pack.clips[i].license.split(LICENSE_JOINT)}))
    chunk = 100
    jobs = [
        (str(pack.path), rows, kind, min(chunk, count - first), seed * 1_000_003 + first * 31 + number)
        for number, (kind, count) in enumerate(asdict(sizes or PoolSizes()).items())
        for first in range(0, count, chunk)
    ]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        done = tqdm(pool.map(_make, jobs), total=len(jobs), desc="pool", disable=None)
        return PackedClips.write(out, _records(done, jobs, license), pack.fps, pack.skeleton, (pack.mean, pack.std))


Record = tuple[Clip, NDArray[np.float32], NDArray[np.float32]]
Job = tuple[str, list[int], str, int, int]


Made = list[tuple[NDArray[np.float32], NDArray[np.float32], list[str]]]


def _records(done: Iterable[Made], jobs: list[Job], license: str) -> Iterator[Record]:
    number = 0
    for examples, job in zip(done, jobs, strict=True):
        for features, joints, captions in examples:
            clip = Clip(
                id=f"pool_{job[2]}_{number:06d}",
                split="train",
                start=0,
                frames=len(joints),
                captions=tuple(captions),
                crop_safe=(False,) * len(captions),
                source=f"made from recorded clips ({job[2]})",
                license=license,
                label=job[2],
            )
            number += 1
            yield clip, features, joints


def _make(job: Job) -> Made:
    path, rows, kind, count, seed = job
    torch.set_num_threads(1)
    pack = PackedClips.open(path)
    clips = [
        Captioned(clip.id, clip.short, clip.captions, clip.crop_safe, np.array(pack.clip_joints(i)))
        for i, clip in ((i, pack.clips[i]) for i in rows)
    ]
    return [
        (joints_to_features(torch.from_numpy(joints)).numpy(), joints, captions)
        for joints, captions in MAKERS[kind](clips, count, seed)
    ]
