"""What is wrong with a data set.

`joint_problems` judges one clip, for `prepare`, which skips it, and for `check`, which reports. `check` examines whole
folders as well: names, captions, splits that leak, statistics, and features that do not give back the joints.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from motiongpt3.data.clips import PACKED_NAME, SPLITS, PackedClips, Statistics
from motiongpt3.data.sources import (
    CLIP_NAME,
    Problem,
    SourceClip,
    open_source,
    parse_caption_line,
    read_numbers,
    read_text_lines,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import feature_size, features_to_joints
from motiongpt3.motion.skeleton import HUMANML3D, Float32, Float64
from motiongpt3.motion.upright import find_upright, standing_axis

MAX_SPEED = 20.0
"""Metres per second; a joint that is faster has jumped (a thrown ball leaves the hand at 15 to 25)."""
SAME_MOTION = 0.0005
"""Metres; clips of about one length whose coordinates differ less on average are one recording: more than rounding,
less than any two takes differ."""
MAX_RECOVERY_ERROR = 0.01
"""Metres by which joints may differ from those their features give back; rounding stays far below. A round number."""
MAX_DRIFT = 0.05
"""Part of a standard deviation by which stored statistics may differ from those of the train split. A round number."""


def check(folder: str | Path, *, fps: float = 20.0, progress: bool | None = None) -> list[Problem]:
    """Examine a prepared folder, a HumanML3D folder or a mocap folder; nothing is changed.

    Finds NaN, a wrong unit, up axis or frame rate, missing files, captions without clips and clips without captions,
    motions that are in two splits (by name, by mirrored name and by content), statistics that are not those of the
    train split, features that do not give back the joints, and files that cannot be read. Errors make the data wrong
    or a result untrue; warnings are worth knowing. Raises nothing because of what the folder holds.

    Args:
        folder: what to examine.
        fps: the frame rate it should have.
        progress: show a progress bar; None shows it on a terminal.
    """
    path = Path(folder)
    packed, layout = (path / PACKED_NAME).is_file(), (path / "new_joint_vecs").is_dir()
    bar = partial(tqdm, unit="clip", disable=None if progress is None else not progress)
    examined = _Examination(path, fps, bar)
    problems: list[Problem] = []
    if packed:
        problems += examined.packed()
    if layout:
        problems += examined.layout(content=not packed)
    if not packed and not layout:
        problems += examined.source()
    return problems


def joint_problems(file: str, joints: Float32, fps: float = 20.0) -> list[Problem]:
    """What is wrong with the joints of one clip: shape, numbers, unit, axis (errors); jumps, place (warnings).

    Args:
        file: what to call the clip.
        joints: any array; should be (T, J, 3), metres, y up, frame 0 over the origin and facing +z, with the bone
            lengths of HumanML3D's skeleton within a factor of two.
        fps: frames per second.
    """
    if joints.ndim != 3 or joints.shape[1:] != (len(HUMANML3D), 3) or not len(joints):
        return [Problem(file, f"joints have shape {joints.shape}, not (frames, {len(HUMANML3D)}, 3)")]
    bad = ~np.isfinite(joints).all(axis=(1, 2))
    if bad.any():
        return [Problem(file, f"NaN or infinite values, first in frame {int(bad.argmax())}")]
    values = joints.astype(np.float64)
    bones = np.linalg.norm(values[:, 1:] - values[:, list(HUMANML3D.parents[1:])], axis=-1)
    size = float(np.median(bones.sum(-1)) / HUMANML3D.bone_lengths.sum())
    if not 0.5 < size < 2:
        return [Problem(file, f"bones are {size:.3g} times the usual length{_unit(size)}")]
    if (up := find_upright(values).up) != "y":
        return [Problem(file, f"{up} is up; y should be: `motiongpt3 export --up {up}` turns it")]
    return [Problem(file, reason, "warning") for reason in _oddities(values, fps)]


def _unit(size: float) -> str:
    for name, factor in (("centimetres", 100), ("millimetres", 1000), ("inches", 39.37), ("kilometres", 0.001)):
        if 0.5 < size / factor < 2:
            return f": the unit is probably {name}, not metres"
    return ""


def _oddities(joints: Float64, fps: float) -> Iterable[str]:
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(-1, initial=0) * fps
    if len(speed) and speed.max() > MAX_SPEED:
        frame = int(speed.argmax())
        yield f"a joint moves at {speed.max():.0f} m/s between frames {frame} and {frame + 1}"
    low = joints[..., 1].min()
    if not -0.1 <= low <= 0.3:
        yield f"the lowest joint is at {low:.2f} m; the floor should be near 0"
    aside = float(np.linalg.norm(joints[0, 0, [0, 2]]))
    if aside > 0.01:
        yield f"the pelvis starts {aside:.2f} m away from the origin"
    (left_hip, right_hip), (left, right) = HUMANML3D.hips, HUMANML3D.shoulders
    across = joints[0, left_hip] - joints[0, right_hip] + joints[0, left] - joints[0, right]
    turn = abs(np.degrees(np.arctan2(across[2], across[0])))
    if turn > 3:
        yield f"frame 0 faces {turn:.0f} degrees away from +z"


def _moments(joints: Float32) -> Float32:
    """What tells a motion (T, J, 3) from others: its joints at eight moments, flat."""
    return joints[np.linspace(0, len(joints) - 1, 8).round().astype(int)].astype(np.float32).reshape(-1)


def _duplicates(file: str, clips: list[tuple[str, str, int, Float32]]) -> Iterator[Problem]:
    """Clips that are the same recording, from names, splits, frames and `_moments`.

    An error for each pair in different splits (a leak), a warning for each within one. Clips that equal another to the
    last bit are told beside the first such clip only, so that many of them cost no more than as many others.
    """
    firsts: dict[tuple[int, bytes], dict[str, str]] = {}
    different = []
    for clip in clips:
        name, split, frames, moments = clip
        same = firsts.setdefault((frames, moments.tobytes()), {})
        if same:
            first = split if split in same else next(iter(same))
            yield _same_motion(file, (same[first], first), (name, split))
        if split not in same:
            same[split] = name
            if len(same) == 1:
                different.append(clip)
    if not different:
        return
    names, splits, frames_of, every = zip(*different, strict=True)
    lengths, moments_of = np.array(frames_of), np.stack(every)
    order = np.argsort(lengths, kind="stable")
    for place, first in enumerate(order):
        end = np.searchsorted(lengths[order], lengths[first] + 2, side="right")
        others = order[place + 1 : end]
        apart = np.abs(moments_of[others] - moments_of[first]).mean(axis=-1)
        for other in others[apart < SAME_MOTION]:
            yield _same_motion(file, (names[first], splits[first]), (names[other], splits[other]))


def _same_motion(file: str, one: tuple[str, str], other: tuple[str, str]) -> Problem:
    """What is wrong with two clips (name, split) of one recording."""
    (a, split_a), (b, split_b) = sorted([one, other])
    if split_a == split_b:
        return Problem(file, f"{a} and {b} are the same motion, both in {split_a}", "warning")
    return Problem(file, f"{a} and {b} are the same motion, one in {split_a}, one in {split_b}: the split leaks")


@dataclass
class _Examination:
    """One folder under examination; every method yields what it finds."""

    folder: Path
    fps: float
    bar: partial[tqdm]

    def source(self) -> Iterator[Problem]:
        """A folder that `prepare` reads."""
        try:
            source = open_source(self.folder, self.fps)
        except MotionGPT3Error as error:
            yield Problem(str(self.folder), str(error))
            return
        seen, _ = yield from self._clips(self.bar(source.items, "checking", source.total), self.folder.name)
        if not seen:
            yield Problem(str(self.folder), "has no readable clip")

    def packed(self) -> Iterator[Problem]:
        """The packed file of a prepared folder."""
        try:
            packed = PackedClips.open(self.folder)
        except MotionGPT3Error as error:
            yield Problem(PACKED_NAME, str(error))
            return
        if packed.skeleton != HUMANML3D:
            yield Problem(PACKED_NAME, "was made for another skeleton")
            return
        if packed.fps != self.fps:
            yield Problem(PACKED_NAME, f"has {packed.fps:g} frames per second, not {self.fps:g}")
        items = (
            SourceClip(
                f"{PACKED_NAME} {clip.id}", clip, np.array(packed.clip_joints(index)), packed.clip_features(index)
            )
            for index, clip in enumerate(self.bar(packed.clips, "checking packed clips"))
        )
        seen, totals = yield from self._clips(items, PACKED_NAME)
        yield from _check_statistics(PACKED_NAME, (packed.mean, packed.std), totals)
        if (self.folder / "new_joint_vecs").is_dir():
            ids = {name for split in SPLITS for name in self._split_names(split)}
            for name in sorted(ids ^ set(seen))[:20]:
                where = "the split lists" if name in ids else PACKED_NAME
                yield Problem(str(self.folder), f"{name} is only in {where}; prepare the folder again")

    def layout(self, content: bool) -> Iterator[Problem]:
        """The HumanML3D layout; its clips' content is examined only if no packed file holds it."""
        where: dict[str, str] = {}
        for split in SPLITS:
            if not (self.folder / f"{split}.txt").is_file():
                yield Problem(f"{split}.txt", "is missing")
            for name in self._split_names(split):
                if not CLIP_NAME.fullmatch(name):
                    yield Problem(f"{split}.txt", f"{name[:60]!r} is no file name")
                elif name in where:
                    leak = ": the split leaks" if where[name] != split else ""
                    yield Problem(f"{split}.txt", f"{name} is already in {where[name]}.txt{leak}")
                else:
                    where[name] = split
        for name, split in where.items():
            # HumanML3D names the mirror image of 012314 M012314.
            if re.fullmatch(r"M\d{6}", name) and where.get(name[1:], split) != split:
                leak = f"{name} mirrors {name[1:]} of {where[name[1:]]}.txt: the split leaks"
                yield Problem(f"{split}.txt", leak)
        moments: list[tuple[str, str, int, Float32]] = []
        axes: Counter[str | None] = Counter()
        totals = Statistics()
        for name, split in self.bar(where.items(), "checking files"):
            yield from self._text(name)
            file = f"new_joint_vecs/{name}.npy"
            try:
                features = read_numbers(self.folder / file)
                if features.ndim != 2 or features.shape[1] != feature_size() or not len(features):
                    raise MotionGPT3Error(f"features have shape {features.shape}, not (frames, {feature_size()})")
                given = self.folder / "new_joints" / f"{name}.npy"
                joints = read_numbers(given) if given.is_file() else None
            except MotionGPT3Error as error:
                yield Problem(f"{name}.npy", str(error))
                continue
            if wrong := _feature_problem(file, features, joints):
                yield wrong
                continue
            totals.add(features, split)
            if content:
                if joints is None:
                    joints = features_to_joints(torch.from_numpy(features)).numpy()
                yield from joint_problems(file, joints, self.fps)
                moments.append((name, split, len(joints), _moments(joints)))
                axes[standing_axis(joints)] += 1
        yield from _duplicates(self.folder.name, moments)
        yield from _standing_along(self.folder.name, axes)
        try:
            stored = read_numbers(self.folder / "Mean.npy"), read_numbers(self.folder / "Std.npy")
            yield from _check_statistics("Mean.npy, Std.npy", stored, totals)
        except MotionGPT3Error as error:
            yield Problem("Mean.npy, Std.npy", str(error))
        motions = {path.stem for path in (self.folder / "new_joint_vecs").glob("*.npy")}
        texts = {path.stem for path in (self.folder / "texts").glob("*.txt")}
        for name in sorted(motions - set(where)):
            yield Problem(f"new_joint_vecs/{name}.npy", "is in no split", "warning")
        for name in sorted(texts - set(where) - motions):
            yield Problem(f"texts/{name}.txt", "captions without a clip")

    def _clips(
        self, items: Iterable[SourceClip | Problem], file: str
    ) -> Generator[Problem, None, tuple[dict[str, str], Statistics]]:
        """Every clip; returns the split of each that was read, by its id, and the statistics of sound features."""
        seen: dict[str, str] = {}
        moments: list[tuple[str, str, int, Float32]] = []
        axes: Counter[str | None] = Counter()
        totals = Statistics()
        for item in items:
            if isinstance(item, Problem):
                yield item
                continue
            clip, features, joints = item.clip, item.features, item.joints
            if clip.id in seen:
                yield Problem(item.file, f"{clip.id} is in {seen[clip.id]} and again in {clip.split}")
            seen.setdefault(clip.id, clip.split)
            yield from _check_captions(item.file, clip.captions)
            yield from joint_problems(item.file, joints, self.fps)
            if features is not None and (wrong := _feature_problem(item.file, features, joints)):
                yield wrong
            elif np.isfinite(joints).all():
                if features is not None:
                    totals.add(features, clip.split)
                moments.append((clip.id, clip.split, len(joints), _moments(joints)))
                axes[standing_axis(joints)] += 1
        yield from _duplicates(file, moments)
        yield from _standing_along(file, axes)
        return seen, totals

    def _split_names(self, split: str) -> list[str]:
        try:
            return read_text_lines(self.folder / f"{split}.txt")
        except MotionGPT3Error:
            return []

    def _text(self, name: str) -> Iterator[Problem]:
        file = f"texts/{name}.txt"
        if not (self.folder / file).is_file():
            yield Problem(file, "is missing: a clip without captions")
            return
        try:
            captions = [parse_caption_line(line)[0] for line in read_text_lines(self.folder / file)]
        except MotionGPT3Error as error:
            yield Problem(file, str(error))
        else:
            yield from _check_captions(file, captions)


def _standing_along(file: str, axes: Counter[str | None]) -> Iterator[Problem]:
    """An error if most clips stand along another axis than y. One of them could lie; most people stand."""
    for axis, count in axes.items():
        if axis not in (None, "y") and count > axes.total() / 2:
            yield Problem(file, f"{count} of {axes.total()} clips stand along {axis}, so {axis} is up; y should be")


def _feature_problem(file: str, features: Float32, joints: Float32 | None) -> Problem | None:
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        return Problem(file, f"NaN or infinite features, first in frame {int(bad.argmax())}")
    if joints is None:
        return None
    if len(joints) != len(features) or joints.shape[1:] != (len(HUMANML3D), 3):
        return Problem(file, f"{len(features)} frames of features, joints of shape {joints.shape}")
    recovered = features_to_joints(torch.from_numpy(np.array(features))).numpy()
    origin = joints[:1, :1] * np.array([1, 0, 1], dtype=np.float32)
    apart = float(np.abs(recovered - (joints - origin)).max())
    if not apart <= MAX_RECOVERY_ERROR:
        return Problem(file, f"features give joints {apart:.2g} m away from the stored ones")
    return None


def _check_captions(file: str, captions: Sequence[str]) -> Iterator[Problem]:
    if not captions:
        yield Problem(file, "no captions", "warning")
    elif not all(caption.strip() for caption in captions):
        yield Problem(file, "an empty caption")


def _check_statistics(file: str, stored: tuple[Float32, Float32], totals: Statistics) -> Iterator[Problem]:
    mean, std = totals.result()
    if stored[0].shape != mean.shape or stored[1].shape != std.shape:
        yield Problem(file, f"statistics have shapes {stored[0].shape} and {stored[1].shape}, not {mean.shape}")
        return
    for what, given, wanted in (("mean", stored[0], mean), ("deviation", stored[1], std)):
        off = np.abs(given - wanted) / std
        if not (off <= MAX_DRIFT).all():
            channel = int(np.nan_to_num(off, nan=np.inf).argmax())
            values = f"{given[channel]:.4g}, the train split has {wanted[channel]:.4g}"
            yield Problem(file, f"the {what} of channel {channel} is {values}")
