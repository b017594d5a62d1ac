"""More training examples made from recorded clips, as a second packed file beside them.

An example is a motion with captions that say what happens in it. There are four kinds: actions joined in time, a
gesture layered on a walk, short clips made longer, and exercises with relaxed arms. Everything is decided by a seed:
the same clips and the same seed give the same examples, whatever the number of processes.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from motiongpt3.data.captions import (
    LOWER_ONLY,
    UPPER_ONLY,
    counts,
    finite_predicate,
    join_predicates,
    layer_predicates,
)
from motiongpt3.data.clips import LICENSE_JOINT, Clip, PackedClips
from motiongpt3.data.labels import (
    GESTURE,
    LOCOMOTION,
    LOWER_SHARE,
    PHRASES,
    RAISES,
    UPPER_SHARE,
    WAVES,
    asked_pairs,
    base_action,
)
from motiongpt3.data.time_stretch import extend, lasting_captions, modes, speed, turning
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import Part, best_cut, hold_pose, join, layer
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.poses import align, smooth_heading
from motiongpt3.motion.skeleton import Array, Float32

Kind = Literal["joined", "layered", "extended", "relaxed"]
Example = tuple[Float32, list[str]]
Made = tuple[Float32, Float32, list[str]]
Groups = dict[str, list["Captioned"]]

CHUNK = 100
"""Examples that one process makes from one seed; a change changes all pools."""
MIN_FRAMES = 16
"""Frames (0.8 s) of the shortest clip or piece that still shows an action."""
MAX_WORDS = 24
"""Words of the longest caption of two actions; human captions are seldom longer."""
_SUBJECTS = (
    "a person", "a person", "the person", "someone", "somebody", "a human", "this person", "a figure", "an individual",
)  # fmt: skip
_POSED = re.compile(r"^UIPRMD_")
"""Ids of exercises with the hands held up: odd neighbours for everything else."""
_EXERCISES = {
    "sit and stand", "deep squat", "side lunge right", "side lunge left", "lunge right forward", "lunge left forward",
}  # fmt: skip
_HANDS = re.compile(r"\b(arms?|hands?|elbows?|fists?|wrists?|forearms?|overhead|stick|bar|poor|incorrect\w*)\b")
"""Words that make a caption of an exercise unfit once its arms hang."""


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
    chunks = [
        (kind, min(CHUNK, count - first), seed * 1_000_003 + first * 31 + number)
        for number, (kind, count) in enumerate(asdict(sizes or PoolSizes()).items())
        for first in range(0, count, CHUNK)
    ]

    def records(done: Iterable[list[Made]]) -> Iterator[tuple[Clip, Float32, Float32]]:
        number = 0
        for made, (kind, _, _) in zip(done, chunks, strict=True):
            about = {"source": f"made from recorded clips ({kind})", "license": license, "label": kind}
            for features, joints, captions in made:
                unsafe = (False,) * len(captions)
                clip = Clip(f"pool_{kind}_{number:06d}", "train", 0, len(joints), tuple(captions), unsafe, **about)
                number += 1
                yield clip, features, joints

    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        done = pool.map(partial(_make_chunk, pack.path, rows), chunks)
        bar = tqdm(done, total=len(chunks), desc="pool", disable=None)
        return PackedClips.write(out, records(bar), pack.fps, (pack.mean, pack.std))


def _make_chunk(path: Path, rows: list[int], chunk: tuple[Kind, int, int]) -> list[Made]:
    """Features, joints and captions of some examples; chunk is their kind, number and seed."""
    torch.set_num_threads(1)
    pack = PackedClips.open(path)
    clips = []
    for i in rows:
        clip = pack.clips[i]
        joints = np.array(pack.clip_joints(i))
        clips.append(Captioned(clip.id, clip.short, clip.captions, clip.crop_safe, joints))
    examples = make_examples(clips, *chunk)
    return [(joints_to_features(torch.from_numpy(joints)).numpy(), joints, texts) for joints, texts in examples]


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


def make_examples(
    clips: Sequence[Captioned], kind: Kind, count: int, seed: int, max_frames: int = 200
) -> list[Example]:
    """`count` examples of a kind; fewer only if the clips hold too little to make them from.

    Returns:
        ((T, 22, 3) float32, captions) each, facing +z over the origin at first, on the floor y = 0; T <= max_frames.
    """
    maker = _Maker(clips, seed, max_frames)
    attempts = (3 if kind == "relaxed" else 6) * count  # few relaxed ones fail
    made = (getattr(maker, kind)() for _ in range(attempts))
    return list(islice((example for example in made if example is not None), count))


class _Piece(NamedTuple):
    """Some frames of a clip: what it is, and predicates that are true of it."""

    action: str
    joints: Array
    predicates: list[str]
    phrases: list[str]


class _Maker:
    """Draws examples from clips; each kind is a method that makes one, or None where what it drew does not fit."""

    def __init__(self, clips: Sequence[Captioned], seed: int, max_frames: int) -> None:
        self.rng, self.max_frames = np.random.default_rng(seed), max_frames
        posed = [clip for clip in clips if _POSED.match(clip.id)]
        free = [clip for clip in clips if not _POSED.match(clip.id) and len(clip.joints) >= MIN_FRAMES]
        self.groups = by_action(free)
        self.weights = _weights({name: group for name, group in self.groups.items() if len(group) > 2} or self.groups)
        self.short = by_action(clip for clip in free if len(clip.joints) < 70)
        self.exercises = by_action(clip for clip in posed if base_action(clip.short) in _EXERCISES)
        self.seats = [clip for clip in posed if base_action(clip.short) == "sit and stand"]
        self.resting = [clip for name in (*WAVES, *RAISES) for clip in self.groups.get(name, [])]
        had = set(self.groups) | ({"stop"} if self.resting else set())
        had |= {"sit down"} if self.resting and self.seats else set()
        self.pairs = [pair for pair in asked_pairs() if had.issuperset(pair)]
        actions = by_action(clips)
        self.lowers = _weights({name: actions[name] for name in actions if LOCOMOTION.fullmatch(name)}, LOWER_SHARE)
        self.uppers = _weights({name: actions[name] for name in actions if GESTURE.fullmatch(name)}, UPPER_SHARE)

    def joined(self) -> Example | None:
        """Two actions one after the other, one time in twelve three.

        Two thirds are pairs that people ask for (walk then wave, run then stop, walk then sit ...), all such pairs
        alike; the rest are pairs of any two actions. A clip is cropped only where captions allow it. Half the examples
        are about four seconds long.
        """
        rng = self.rng
        triple = rng.random() < 1 / 12
        total = self._frames((70, 100), (90, max(self.max_frames, 91) + 1))
        total = min(self.max_frames, total + 40 * triple)
        if self.pairs and rng.random() < 2 / 3:
            actions = list(self.pairs[int(rng.integers(len(self.pairs)))])
        else:
            actions = [self._action(self.weights), self._action(self.weights)]
        if triple:
            actions.append(self._action(self.weights))
        pieces = self._pieces(actions, total)
        if pieces is None:
            return None
        joints = pieces[0].joints
        for before, after in pairwise(pieces):
            if not (_upright(joints[-1]) and _upright(after.joints[0])):
                return None
            end, start = best_cut(joints, after.joints, _slack(before), _slack(after))
            joints = join(joints[:end], after.joints[start:])
        captions = []
        for _ in range(6):
            words = [self._predicate(piece) for piece in pieces]
            subject = self._any(_SUBJECTS)
            if len(words) == 3:
                text = f"{subject} {words[0]}, then {words[1]} and then {words[2]}."
            else:
                text = join_predicates(subject, words[0], words[1], rng)
            if len(text.split()) <= MAX_WORDS + 8 * (len(words) - 2):
                captions.append(text)
        return _example(joints, list(dict.fromkeys(captions)))

    def layered(self) -> Example | None:
        """A walk or a run (also turning, backward) with a wave or raised hands on top."""
        if not self.lowers or not self.uppers:
            return None
        total = min(self.max_frames, self._frames((72, 92), (50, 161)))
        legs, gesture = self._piece(self._action(self.lowers), total), self._piece(self._action(self.uppers), total)
        if legs is None or gesture is None:
            return None
        lower, upper, predicates = legs.joints, gesture.joints, legs.predicates
        straight = legs.action in ("walk forward", "run forward") and modes(lower)
        if len(lower) < total and straight and (longer := extend(lower, total, self.rng, "loop")):
            lower, predicates = longer[0], [text for text in predicates if not counts(text)]
        if len(lower) < 30:
            return None
        one_arm: Part = "right arm" if "right" in gesture.action else "left arm" if "left" in gesture.action else "arms"
        part = "upper" if self.rng.random() < 0.25 else one_arm
        start = None if len(upper) >= len(lower) else int(self.rng.integers(len(lower) - len(upper) + 1))
        joints = layer(lower, upper, part, start)
        if not _shows(gesture.action, joints):
            return None
        lowers = [text for text in predicates if not LOWER_ONLY.search(text) and len(text.split()) < 10]
        uppers = [text for text in gesture.predicates if not UPPER_ONLY.search(text) and len(text.split()) < 10]
        captions = []
        for _ in range(8):
            plain = legs.phrases and (not lowers or self.rng.random() < 0.5)
            low = self._any(legs.phrases if plain else lowers or [""])
            high = self._any(gesture.phrases if not uppers or self.rng.random() < 0.5 else uppers)
            text = layer_predicates(self._any(_SUBJECTS), low, high, self.rng) if low else None
            if text is not None and len(text.split()) <= MAX_WORDS:
                captions.append(text)
        return _example(joints, list(dict.fromkeys(captions))[:6])

    def extended(self) -> Example | None:
        """A clip shorter than four seconds made 70 to 100 frames long.

        Actions are drawn by the square root of how many clips they have. Walks and runs go on, gestures are
        repeated or wait before and after; captions that count are left out.
        """
        if not self.short:
            return None
        clip = self._clip(self.short)
        longer = extend(clip.joints, min(self.max_frames, int(self.rng.integers(70, 101))), self.rng)
        if longer is None:
            return None
        return _example(longer[0], lasting_captions(clip.captions, clip.crop_safe, longer[1]))

    def relaxed(self) -> Example | None:
        """A squat, seat or lunge of the exercises, whose hands are held up, with arms that hang.

        Half of them are made 70 to 100 frames long.
        """
        if not self.exercises or not self.resting:
            return None
        clip = self._clip(self.exercises)
        captions = [text for text in clip.captions if not _HANDS.search(text)]
        if not captions:
            return None
        joints = self._relax(clip.joints)
        if self.rng.random() < 0.5 and len(joints) < 70:
            longer = extend(joints, int(self.rng.integers(70, 101)), self.rng)
            if longer is not None and (lasting := lasting_captions(captions, [True] * len(captions), longer[1])):
                joints, captions = longer[0], lasting
        return _example(joints, captions)

    def _action(self, weights: dict[str, float]) -> str:
        return list(weights)[int(self.rng.choice(len(weights), p=list(weights.values())))]

    def _clip(self, groups: Groups) -> Captioned:
        group = groups[self._action(_weights(groups))]
        return group[int(self.rng.integers(len(group)))]

    def _any(self, texts: Sequence[str]) -> str:
        return str(self.rng.choice(texts))

    def _frames(self, short: tuple[int, int], long: tuple[int, int]) -> int:
        """Half of the time from the first range, else from the second, ends left out."""
        return int(self.rng.integers(*(short if self.rng.random() < 0.5 else long)))

    def _resting_pose(self) -> Array:
        return self.resting[int(self.rng.integers(len(self.resting)))].joints[0]

    def _relax(self, joints: Array) -> Float32:
        """(T, 22, 3) the same motion with the arms of somebody who stands and waits."""
        pose = self._resting_pose()
        waiting = hold_pose(pose, len(joints), sway=0.01, phase=float(self.rng.uniform(0, 6)))
        return layer(joints, waiting, "arms").astype(np.float32)

    def _pieces(self, actions: list[str], total: int) -> list[_Piece] | None:
        """A piece of each action, `total` frames or a little more together."""
        share = self.rng.uniform(0.4, 0.6) if len(actions) == 2 else 0.36
        pieces: list[_Piece] = []
        left = total
        for index, action in enumerate(actions):
            last = index == len(actions) - 1
            piece = self._piece(action, left if last else max(24, int(total * share)))
            if piece is None or not (piece.predicates or piece.phrases):
                return None
            pieces.append(piece)
            left = max(24, left - len(piece.joints))
        return pieces if sum(len(piece.joints) for piece in pieces) <= self.max_frames else None

    def _piece(self, action: str, frames: int) -> _Piece | None:
        """About `frames` frames of an action, cropped only where captions stay true; None if that cannot be had."""
        rng, phrases = self.rng, list(PHRASES.get(action, ()))
        if action == "stop" and self.resting:
            pose = self._resting_pose()
            wait = int(rng.integers(24, max(25, min(frames, 60)) + 1))
            return _Piece(action, hold_pose(pose, wait, phase=rng.uniform(0, 6)), [], phrases)
        if action == "sit down" and self.seats and self.resting:
            clip = self.seats[int(rng.integers(len(self.seats)))]
            seated = int(clip.joints[:, 0, 1].argmin()) + 1
            joints = self._relax(clip.joints[:seated])
            return _Piece(action, join(joints, hold_pose(joints[-1], int(rng.integers(8, 30)))), [], phrases)
        if action not in self.groups:
            return None
        group = self.groups[action]
        clip = group[int(rng.integers(len(group)))]
        joints, captions = clip.joints, clip.captions
        if len(joints) > frames:
            if action.startswith("walk and turn"):
                joints, captions = _turn(joints), []
                if len(joints) > 1.4 * frames:
                    return None
            elif action in PHRASES and not LOCOMOTION.fullmatch(action) and not GESTURE.fullmatch(action):
                # A part of it is no longer the action: half a squat, or half of lying down.
                if len(joints) > max(150, 1.8 * frames):
                    return None
            elif any(clip.crop_safe) and frames >= MIN_FRAMES:
                joints = self._crop(action, joints, frames)
                captions = [text for text, safe in zip(captions, clip.crop_safe, strict=True) if safe]
                if action.startswith("raise") and frames < 0.5 * len(clip.joints):
                    return None
            else:
                return None
        if phrases and not _shows(action, joints):
            return None
        predicates = [predicate for text in captions if (predicate := finite_predicate(text))]
        return _Piece(action, joints, predicates, phrases)

    def _crop(self, action: str, joints: Array, frames: int) -> Array:
        """The first frames; of walks and runs, and now and then of a wave, frames from anywhere."""
        spare, begin = len(joints) - frames, 0
        if LOCOMOTION.fullmatch(action):
            begin = int(self.rng.integers(spare + 1))
        if action.startswith("wave") and spare > 20 and self.rng.random() < 0.3:
            begin = int(self.rng.integers(20, spare + 1))
        return joints[begin : begin + frames]

    def _predicate(self, piece: _Piece) -> str:
        short = [text for text in piece.predicates if len(text.split()) <= 10] or piece.predicates
        return self._any(piece.phrases if piece.phrases and (not short or self.rng.random() < 0.5) else short)


def by_action(clips: Iterable[Captioned]) -> Groups:
    """Clips with captions by their base action, in order; posed gestures are left out."""
    groups: Groups = defaultdict(list)
    for clip in clips:
        action = base_action(clip.short)
        if clip.captions and not (_POSED.match(clip.id) and GESTURE.fullmatch(action)):
            groups[action].append(clip)
    return dict(sorted(groups.items()))


def _weights(groups: Groups, share: dict[str, float] | None = None) -> dict[str, float]:
    """How often each action is drawn: as `share` says (others 0.5), or by the square root of its number of clips."""
    raw = {name: (share.get(name, 0.5) if share else float(np.sqrt(len(group)))) for name, group in groups.items()}
    total = sum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def _shows(action: str, joints: Array) -> bool:
    """Whether the crop still shows what the phrases of its action say."""
    if action.startswith("walk and turn"):
        return turning(joints) * (1 if action.endswith("left") else -1) > 0.8
    if action in ("walk forward", "run forward"):
        return speed(joints) > 0.4 and abs(turning(joints)) < 0.6
    if GESTURE.fullmatch(action):
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
    """Frames of a straight walk or run that may be dropped at a seam."""
    straight = piece.action in ("walk forward", "run forward", "walk backward")
    return min(20, len(piece.joints) // 4) if straight else 0


def _upright(pose: Array) -> bool:
    """Whether somebody stands, (22, 3): pelvis high above the feet, neck above the pelvis."""
    feet = pose[[7, 8, 10, 11], 1].min()
    return bool(pose[0, 1] - feet > 0.72 and pose[12, 1] - pose[0, 1] > 0.35)


def _example(joints: Array, captions: list[str]) -> Example | None:
    """The motion facing +z over the origin at first, its lowest joint at y = 0; None without captions."""
    if not captions:
        return None
    moved = align(joints, (0.0, 0.0), 0.0)
    moved[..., 1] -= moved[..., 1].min()
    return moved.astype(np.float32), captions
