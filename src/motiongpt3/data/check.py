"""The doctor: what is wrong with a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from motiongpt3.data.clips import PACKED_NAME, SPLITS, PackedClips, Statistics
from motiongpt3.data.sources import (
    NAME,
    Duplicates,
    Problem,
    SourceClip,
    joint_problems,
    open_source,
    parse_caption,
    read_npy,
    read_text_lines,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import feature_size, features_to_joints
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

RECOVERY = 0.01
"""Metres by which joints may differ from those their features give back."""
DRIFT = 0.05
"""Part of a standard deviation by which stored statistics may differ from those of the train split."""


def check(
    folder: str | Path, *, fps: float = 20.0, skeleton: Skeleton = HUMANML3D, progress: bool | None = None
) -> list[Problem]:
    """Examine a prepared folder, a HumanML3D folder or a mocap folder; nothing is changed.

    Finds NaN, a wrong unit, up axis or frame rate, missing files, captions without clips and clips without captions,
    motions that are in two splits (by name, by mirrored name and by content), statistics that are not those of the
    train split, features that do not give back the joints, and files that cannot be read. Errors make the data wrong
    or a result untrue; warnings are worth knowing. Raises nothing because of what the folder holds.

    Args:
        folder: what to examine.
        fps: the frame rate it should have.
        skeleton: the joints it should have.
        progress: show a progress bar; None shows it on a terminal.
    """
    path = Path(folder)
    disable = None if progress is None else not progress
    packed, layout = (path / PACKED_NAME).is_file(), (path / "new_joint_vecs").is_dir()
    problems: list[Problem] = []
    if packed:
        problems += _check_packed(path, fps, skeleton, disable)
    if layout:
        problems += _check_layout(path, fps, skeleton, disable, content=not packed)
    if not packed and not layout:
        problems += _check_source(path, fps, skeleton, disable)
    return problems


def _check_source(folder: Path, fps: float, skeleton: Skeleton, disable: bool | None) -> Iterator[Problem]:
    try:
        source = open_source(folder, fps, skeleton)
    except MotionGPT3Error as error:
        yield Problem(str(folder), str(error))
        return
    seen: dict[str, str] = {}
    same = Duplicates()
    for item in tqdm(source.items, "checking", source.total, unit="clip", disable=disable):
        if isinstance(item, Problem):
            yield item
            continue
        yield from _check_clip(item, seen, fps, skeleton)
        if np.isfinite(item.joints).all():
            same.add(item.clip.id, item.clip.split, item.joints)
    yield from same.problems(folder.name)
    if not seen:
        yield Problem(str(folder), "has no readable clip")


def _check_clip(item: SourceClip, seen: dict[str, str], fps: float, skeleton: Skeleton) -> Iterator[Problem]:
    clip = item.clip
    if clip.id in seen:
        yield Problem(item.file, f"{clip.id} is in {seen[clip.id]} and again in {clip.split}")
    seen.setdefault(clip.id, clip.split)
    yield from _check_captions(item.file, clip.captions)
    yield from joint_problems(item.file, item.joints, fps, skeleton)


def _check_captions(file: str, captions: tuple[str, ...]) -> Iterator[Problem]:
    if not captions:
        yield Problem(file, "no captions", "warning")
    elif not all(caption.strip() for caption in captions):
        yield Problem(file, "an empty caption")


def _check_packed(folder: Path, fps: float, skeleton: Skeleton, disable: bool | None) -> Iterator[Problem]:
    try:
        packed = PackedClips.open(folder)
    except MotionGPT3Error as error:
        yield Problem(PACKED_NAME, str(error))
        return
    if packed.skeleton != skeleton:
        yield Problem(PACKED_NAME, "was made for another skeleton")
        return
    if packed.fps != fps:
        yield Problem(PACKED_NAME, f"has {packed.fps:g} frames per second, not {fps:g}")
    seen: dict[str, str] = {}
    same, totals = Duplicates(), Statistics(skeleton)
    for index, clip in enumerate(tqdm(packed.clips, "checking packed clips", unit="clip", disable=disable)):
        features, joints = packed.clip_features(index), np.array(packed.clip_joints(index))
        file = f"{PACKED_NAME} {clip.id}"
        yield from _check_clip(SourceClip(file, clip, joints), seen, fps, skeleton)
        wrong = _check_features(file, features, joints, skeleton)
        if wrong:
            yield wrong
        else:
            totals.add(features, clip.split)
            same.add(clip.id, clip.split, joints)
    yield from same.problems(PACKED_NAME)
    yield from _check_statistics(PACKED_NAME, (packed.mean, packed.std), totals)
    if (folder / "new_joint_vecs").is_dir():
        ids = {name for split in SPLITS for name in _split_names(folder, split)}
        for name in sorted(ids ^ set(seen))[:20]:
            where = "the split lists" if name in ids else PACKED_NAME
            yield Problem(str(folder), f"{name} is only in {where}; prepare the folder again")


def _check_layout(
    folder: Path, fps: float, skeleton: Skeleton, disable: bool | None, content: bool
) -> Iterator[Problem]:
    """The HumanML3D layout; its clips' content is examined only if no packed file holds it."""
    where: dict[str, str] = {}
    for split in SPLITS:
        if not (folder / f"{split}.txt").is_file():
            yield Problem(f"{split}.txt", "is missing")
        for name in _split_names(folder, split):
            if not NAME.fullmatch(name):
                yield Problem(f"{split}.txt", f"{name[:60]!r} is no file name")
            elif name in where:
                leak = ": the split leaks" if where[name] != split else ""
                yield Problem(f"{split}.txt", f"{name} is already in {where[name]}.txt{leak}")
            else:
                where[name] = split
    yield from _check_mirrored(where)
    same, totals = Duplicates(), Statistics(skeleton)
    for name, split in tqdm(where.items(), "checking files", unit="clip", disable=disable):
        yield from _check_text(folder, name)
        try:
            features = _read_features(folder, name, skeleton)
            given = folder / "new_joints" / f"{name}.npy"
            joints = read_npy(given) if given.is_file() else None
        except MotionGPT3Error as error:
            yield Problem(f"{name}.npy", str(error))
            continue
        file = f"new_joint_vecs/{name}.npy"
        wrong = _check_features(file, features, joints, skeleton)
        if wrong:
            yield wrong
            continue
        totals.add(features, split)
        if content:
            recovered = features_to_joints(torch.from_numpy(features), skeleton).numpy() if joints is None else joints
            yield from joint_problems(file, recovered, fps, skeleton)
            same.add(name, split, recovered)
    yield from same.problems(folder.name)
    try:
        stored = read_npy(folder / "Mean.npy"), read_npy(folder / "Std.npy")
        yield from _check_statistics("Mean.npy, Std.npy", stored, totals)
    except MotionGPT3Error as error:
        yield Problem("Mean.npy, Std.npy", str(error))
    for kind, suffix, what in (("new_joint_vecs", ".npy", "motion"), ("texts", ".txt", "captions")):
        others = sorted(f.stem for f in (folder / kind).glob(f"*{suffix}") if f.stem not in where)
        for name in others:
            if what == "captions" and not (folder / "new_joint_vecs" / f"{name}.npy").is_file():
                yield Problem(f"texts/{name}.txt", "captions without a clip")
            elif what == "motion":
                yield Problem(f"{kind}/{name}.npy", "is in no split", "warning")


def _split_names(folder: Path, split: str) -> list[str]:
    try:
        return read_text_lines(folder / f"{split}.txt")
    except MotionGPT3Error:
        return []


def _check_mirrored(where: dict[str, str]) -> Iterator[Problem]:
    """HumanML3D names the mirror image of 012314 M012314."""
    for name, split in where.items():
        if re.fullmatch(r"M\d{6}", name) and where.get(name[1:], split) != split:
            leak = f"{name} mirrors {name[1:]} of {where[name[1:]]}.txt: the split leaks"
            yield Problem(f"{split}.txt", leak)


def _check_text(folder: Path, name: str) -> Iterator[Problem]:
    file = f"texts/{name}.txt"
    if not (folder / file).is_file():
        yield Problem(file, "is missing: a clip without captions")
        return
    try:
        captions = tuple(parse_caption(line)[0] for line in read_text_lines(folder / file))
    except MotionGPT3Error as error:
        yield Problem(file, str(error))
    else:
        yield from _check_captions(file, captions)


def _read_features(folder: Path, name: str, skeleton: Skeleton) -> NDArray[np.float32]:
    features = read_npy(folder / "new_joint_vecs" / f"{name}.npy")
    size = feature_size(skeleton)
    if features.ndim != 2 or features.shape[1] != size or not len(features):
        raise MotionGPT3Error(f"features have shape {features.shape}, not (frames, {size})")
    return features


def _check_features(
    file: str, features: NDArray[np.float32], joints: NDArray[np.float32] | None, skeleton: Skeleton
) -> Problem | None:
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        return Problem(file, f"NaN or infinite features, first in frame {int(bad.argmax())}")
    if joints is None:
        return None
    if len(joints) != len(features) or joints.shape[1:] != (len(skeleton), 3):
        return Problem(file, f"{len(features)} frames of features, joints of shape {joints.shape}")
    recovered = features_to_joints(torch.from_numpy(np.array(features)), skeleton).numpy()
    origin = joints[:1, :1] * np.array([1, 0, 1], dtype=np.float32)
    apart = float(np.abs(recovered - (joints - origin)).max())
    if not apart <= RECOVERY:
        return Problem(file, f"features give joints {apart:.2g} m away from the stored ones")
    return None


def _check_statistics(
    file: str, stored: tuple[NDArray[np.float32], NDArray[np.float32]], totals: Statistics
) -> Iterator[Problem]:
    mean, std = totals.result()
    if stored[0].shape != mean.shape or stored[1].shape != std.shape:
        yield Problem(file, f"statistics have shapes {stored[0].shape} and {stored[1].shape}, not {mean.shape}")
        return
    for what, given, wanted in (("mean", stored[0], mean), ("deviation", stored[1], std)):
        off = np.abs(given - wanted) / std
        if not (off <= DRIFT).all():
            channel = int(np.nan_to_num(off, nan=np.inf).argmax())
            reason = (
                f"the {what} of channel {channel} is {given[channel]:.4g}, the train split has {wanted[channel]:.4g}"
            )
            yield Problem(file, reason)
