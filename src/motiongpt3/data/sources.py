"""Reading what a data set is made from: packed joints, a HumanML3D folder, or recordings.

Every source yields clips and, for each clip it cannot read, a Problem; one bad clip never stops the rest.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from motiongpt3.data.clips import SPLITS, Clip
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import WAYS_ON, ReadOptions, read, readable_suffixes
from motiongpt3.motion.features import canonicalise, feature_size, features_to_joints
from motiongpt3.motion.skeleton import HUMANML3D, Array, Float32
from motiongpt3.untrusted import load_json

MAX_ARCHIVE_BYTES = 8 << 30
"""Of an unpacked archive; the largest public collection has 5 GB."""
MAX_TEXT_BYTES = 1 << 29
"""Of a list of clips or of captions; far more than any known one has."""
CLIP_NAME = re.compile(r"[\w+@=-][\w.+@= -]{0,199}")
"""A clip id becomes a file name, so it must not lead out of the folder."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or a clip.

    Attributes:
        file: the file, or file and clip.
        reason: what is wrong, in one line.
        severity: an error makes the data wrong or a result untrue; a warning is worth knowing.
    """

    file: str
    reason: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.reason}"


@dataclass(frozen=True, eq=False)
class SourceClip:
    """A clip as its source has it.

    Attributes:
        file: where it was read, for reports.
        clip: its record; `start` is 0.
        joints: (T, J, 3) float32 metres.
        features: (T, F) float32 where the source has them, else None: extract them.
    """

    file: str
    clip: Clip
    joints: Float32
    features: Float32 | None = None


@dataclass(frozen=True)
class Source:
    """What a folder holds: about how many clips, and the clips."""

    total: int
    items: Iterator[SourceClip | Problem]


def open_source(folder: str | Path, fps: float = 20.0, reading: ReadOptions | None = None) -> Source:
    """Recognise a folder.

    * mocap: `joints.npz` (root (N, 3) metres, offsets (N, J, 3) integers, metres_per_unit, fps) and `clips.jsonl`;
    * humanml3d: `new_joint_vecs/*.npy`, `texts/*.txt`, `train.txt`, `val.txt`, `test.txt`;
    * recordings: motion files of any readable format at any depth, captions in a .txt of the same name, or in the file.

    Args:
        folder: what to read.
        fps: frames per second of the clips.
        reading: axes, unit, rate and names of recordings, where told.

    Raises:
        MotionGPT3Error: it is none of these, or what holds for all clips cannot be read.
    """
    path = Path(folder)
    if (path / "joints.npz").is_file() and (path / "clips.jsonl").is_file():
        return _mocap(path, fps)
    if (path / "new_joint_vecs").is_dir():
        return _humanml3d(path, fps)
    files = sorted(file for file in path.rglob("*") if not file.is_dir()) if path.is_dir() else []
    recordings = [file for file in files if file.suffix.lower() in readable_suffixes()]
    if recordings:
        return Source(len(recordings), chain(_left_out(path, files), _recordings(path, recordings, fps, reading)))
    raise MotionGPT3Error(
        f"{path} holds no data set: expected joints.npz with clips.jsonl, new_joint_vecs/, or motion files "
        f"({', '.join(readable_suffixes())})"
    )


def read_numbers(path: Path) -> Float32:
    """A .npy array of numbers as float32; nothing is unpickled, and a header cannot claim more than the file holds.

    Raises:
        MotionGPT3Error: it is something else or damaged.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        if array.dtype.kind not in "fiu":
            raise ValueError(f"it holds {array.dtype}, not numbers")
        return np.array(array, dtype=np.float32)
    except OSError as error:
        raise MotionGPT3Error(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, MemoryError, SyntaxError, EOFError) as error:
        raise MotionGPT3Error(f"is not an array of numbers: {str(error).splitlines()[0]}") from None


def read_text_lines(path: Path) -> list[str]:
    """Non-empty lines of a text file, stripped.

    Raises:
        MotionGPT3Error: it cannot be read, is not UTF-8 or is larger than 512 MB.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise MotionGPT3Error(f"{path} is larger than 512 MB")
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise MotionGPT3Error(f"{path} is not UTF-8 text") from None


def parse_caption_line(line: str) -> tuple[str, float, float]:
    """A line of a HumanML3D text file, `caption#tokens#from#to`, as (caption, from, to) in seconds; 0, 0 is the whole.

    Raises:
        MotionGPT3Error: the seconds are no numbers or the caption is empty.
    """
    parts = line.split("#")
    try:
        start, end = (float(parts[2]), float(parts[3])) if len(parts) >= 4 else (0.0, 0.0)
    except ValueError:
        raise MotionGPT3Error(f"the seconds of caption {line[:60]!r} are no numbers") from None
    start, end = (0.0 if np.isnan(value) else value for value in (start, end))
    if not parts[0].strip() or not 0 <= start <= end < 1e6:
        raise MotionGPT3Error(f"caption {line[:60]!r} is empty or ends before it starts")
    return parts[0].strip(), start, end


def _mocap(folder: Path, fps: float) -> Source:
    file = folder / "joints.npz"
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_ARCHIVE_BYTES:
                raise MotionGPT3Error(f"{file} unpacks to more than {MAX_ARCHIVE_BYTES >> 30} GB")
        with np.load(file, allow_pickle=False) as archive:
            root, offsets = archive["root"], archive["offsets"]
            unit, rate = float(archive["metres_per_unit"]), float(archive["fps"])
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise MotionGPT3Error(f"{file} is damaged or not a joints archive: {error}") from None
    rows = len(root) if root.ndim else 0
    if root.shape != (rows, 3) or offsets.shape != (rows, len(HUMANML3D), 3):
        raise MotionGPT3Error(
            f"{file}: root {root.shape} and offsets {offsets.shape} do not fit {len(HUMANML3D)} joints"
        )
    if rate != fps:
        raise MotionGPT3Error(f"{file} has {rate:g} frames per second, not {fps:g}; resample it first")
    lines = read_text_lines(folder / "clips.jsonl")
    return Source(len(lines), _mocap_clips(lines, root, offsets, unit))


def _mocap_clips(lines: list[str], root: Array, offsets: Array, unit: float) -> Iterator[SourceClip | Problem]:
    used: list[tuple[int, int, str]] = []
    for number, line in enumerate(lines, start=1):
        file = f"clips.jsonl:{number}"
        try:
            record = load_json(line)
            start = record["offset"]
            clip = Clip.from_record(record, start=0)
            if type(start) is not int or start < 0 or start + clip.frames > len(root):
                raise MotionGPT3Error(f"clip {clip.id!r} lies outside the {len(root)} frames of joints.npz")
        except MotionGPT3Error as error:
            yield Problem(file, str(error))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield Problem(file, f"is no clip record: {type(error).__name__} {error}")
        else:
            rows = slice(start, start + clip.frames)
            used.append((start, start + clip.frames, clip.id))
            joints = root[rows, None].astype(np.float32) + offsets[rows].astype(np.float32) * np.float32(unit)
            yield SourceClip(f"{file} {clip.id}", clip, joints)
    used.sort()
    for (_, end, first), (start, _, second) in pairwise(used):
        if start < end:
            yield Problem("clips.jsonl", f"{first} and {second} share frames of joints.npz", "warning")
    if sum(end - start for start, end, _ in used) < len(root):
        yield Problem("joints.npz", "has frames that belong to no readable clip", "warning")


def _humanml3d(folder: Path, fps: float) -> Source:
    names = [
        (split, name)
        for split in SPLITS
        if (folder / f"{split}.txt").is_file()
        for name in read_text_lines(folder / f"{split}.txt")
    ]
    if not names:
        raise MotionGPT3Error(f"{folder} has no clips in train.txt, val.txt or test.txt")
    return Source(len(names), _humanml3d_clips(folder, names, fps))


def _humanml3d_clips(folder: Path, names: list[tuple[str, str]], fps: float) -> Iterator[SourceClip | Problem]:
    for split, name in names:
        spans: dict[tuple[float, float], list[str]] = {}
        file = f"{split}.txt"
        try:
            if not CLIP_NAME.fullmatch(name):
                raise MotionGPT3Error(f"{name[:60]!r} is no file name")
            file = f"new_joint_vecs/{name}.npy"
            features = read_numbers(folder / file)
            if features.ndim != 2 or features.shape[1] != feature_size() or not len(features):
                raise MotionGPT3Error(f"has shape {features.shape}, not (frames, {feature_size()})")
            file = f"texts/{name}.txt"
            for line in read_text_lines(folder / file):
                caption, start, end = parse_caption_line(line)
                spans.setdefault((start, end), []).append(caption)
        except MotionGPT3Error as error:
            yield Problem(file, str(error))
            continue
        for (start, end), captions in (spans or {(0.0, 0.0): []}).items():
            part = features if end == 0 else features[int(start * fps) : int(end * fps)]
            clip_id = name if end == 0 else f"{name}_{start:g}-{end:g}"
            if not len(part):
                yield Problem(file, f"seconds {start:g} to {end:g} lie outside the clip")
                continue
            clip = Clip(clip_id, split, 0, len(part), tuple(captions), (False,) * len(captions), folder.name)
            joints = features_to_joints(torch.from_numpy(part)).numpy()
            yield SourceClip(f"new_joint_vecs/{name}.npy", clip, joints, part)


def _left_out(folder: Path, files: list[Path]) -> Iterator[Problem]:
    """Files of a folder of recordings that are none: motions of other formats, captions of nothing, anything else."""
    motions = {file.with_suffix("") for file in files if file.suffix.lower() in readable_suffixes()}
    for file in files:
        name, suffix = str(file.relative_to(folder)), file.suffix.lower()
        if suffix in WAYS_ON and suffix not in (".asf", ".json", ".csv"):
            yield Problem(name, f"is not read: {WAYS_ON[suffix]}")
        elif suffix == ".txt" and file.with_suffix("") not in motions:
            yield Problem(name, "captions without a motion of this name", "warning")
        elif suffix not in (*readable_suffixes(), ".txt", ".asf"):
            yield Problem(name, "is no motion file", "warning")


def _recordings(
    folder: Path, files: list[Path], fps: float, reading: ReadOptions | None
) -> Iterator[SourceClip | Problem]:
    groups = {file: file.parent if file.parent != folder else file for file in files}
    by_hash = {group: _hashed_split(str(group.relative_to(folder))) for group in set(groups.values())}
    if len(by_hash) < 20:
        by_hash = dict.fromkeys(by_hash, "train")
    for file in files:
        name = file.relative_to(folder)
        try:
            found = read(file, reading)
            motion = found.motion.resample(fps)
            if motion.skeleton != HUMANML3D:
                raise MotionGPT3Error(f"has {len(motion.skeleton)} joints, not {len(HUMANML3D)}")
            joints = canonicalise(torch.from_numpy(motion.joints.copy())).numpy()
            text = file.with_suffix(".txt")
            captions = [motion.caption] if motion.caption else []
            if text.is_file():
                captions = [parse_caption_line(line)[0] for line in read_text_lines(text)]
        except MotionGPT3Error as error:
            yield Problem(str(name), str(error))
        else:
            for doubt in found.doubts:
                yield Problem(str(name), doubt, "warning")
            clip_id = "_".join(name.with_suffix("").parts).replace(" ", "_")
            safe = (False,) * len(captions)
            clip = Clip(clip_id, by_hash[groups[file]], 0, len(joints), tuple(captions), safe, folder.name)
            yield SourceClip(str(name), clip, joints)


def _hashed_split(group: str) -> str:
    """80 % train, 10 % val, 10 % test, the same on every machine."""
    place = int(sha256(group.encode()).hexdigest()[:8], 16) % 10
    return "val" if place == 8 else "test" if place == 9 else "train"
