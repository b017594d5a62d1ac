"""PackedClips: captioned motions in one memory-mapped file.

The file is in the safetensors format: tensors `features` (N, F), `joints` (N, J, 3), `mean` (F,) and `std` (F,), all
float32, clips end to end; the clip records, the frame rate and the skeleton are JSON in its metadata. Joints are kept
beside the features (a fifth more bytes) so that evaluation measures against the recording, not against a recovery.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import feature_size, feature_slices
from motiongpt3.motion.skeleton import HUMANML3D, Float32, Skeleton
from motiongpt3.serialization import atomic_path

PACKED_NAME = "packed.safetensors"
"""The packed file's name in a prepared folder."""
SPLITS = ("train", "val", "test")
PACKED_FORMAT = "motiongpt3-clips-1"
LICENSE_JOINT = " + "
"""Between the licences of a clip that was made from recordings under several."""
MAX_HEADER_BYTES = 100_000_000
"""Bytes; the bound of the safetensors format itself."""


@dataclass(frozen=True)
class Clip:
    """One captioned clip of a packed file.

    Attributes:
        id: unique name; also its file name in the HumanML3D layout.
        split: train, val or test.
        start: its first row in the arrays.
        frames: its length.
        captions: what happens in it, in words; may be empty.
        crop_safe: for each caption, whether it is still true of any part of the clip.
        source: where the recording comes from.
        license: licence of the recording; several, joined by LICENSE_JOINT, where recordings were put together.
        label: the source's own words for it.
        short: what happens in two or three words.
    """

    id: str
    split: str
    start: int
    frames: int
    captions: tuple[str, ...] = ()
    crop_safe: tuple[bool, ...] = ()
    source: str = ""
    license: str = ""
    label: str = ""
    short: str = ""

    @property
    def rows(self) -> slice:
        """Its rows in the arrays."""
        return slice(self.start, self.start + self.frames)

    def __post_init__(self) -> None:
        for name in ("id", "split", "source", "license", "label", "short"):
            if not _is_text(getattr(self, name)):
                raise MotionGPT3Error(f"{name} of a clip must be text")
        if not all(type(value) is int for value in (self.start, self.frames)) or self.start < 0 or self.frames < 1:
            raise MotionGPT3Error(f"clip {self.id!r} needs whole numbers start >= 0 and frames >= 1")
        if self.split not in SPLITS:
            raise MotionGPT3Error(f"clip {self.id!r} has split {self.split!r}; it must be one of {', '.join(SPLITS)}")
        if not all(map(_is_text, self.captions)):
            raise MotionGPT3Error(f"captions of clip {self.id!r} must be text")
        if len(self.crop_safe) != len(self.captions) or not all(isinstance(safe, bool) for safe in self.crop_safe):
            raise MotionGPT3Error(f"clip {self.id!r} needs one true or false in crop_safe for each caption")

    def allowed(self, licenses: Collection[str] | None) -> bool:
        """Whether every licence of the clip is among these; None allows all."""
        return licenses is None or self.license in licenses or set(self.license.split(LICENSE_JOINT)) <= set(licenses)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], **changes: Any) -> Clip:
        """A clip from a JSON object; unknown keys are ignored, captions without crop_safe are taken as unsafe."""
        values = {name.name: record[name.name] for name in fields(cls) if name.name in record} | changes
        captions, safe = values.get("captions", ()), values.get("crop_safe")
        if not isinstance(captions, list | tuple) or not isinstance(safe, list | tuple | None):
            raise MotionGPT3Error("captions and crop_safe of a clip must be lists")
        values |= {"captions": tuple(captions), "crop_safe": tuple(safe or [False] * len(captions))}
        try:
            return cls(**values)
        except TypeError as error:
            raise MotionGPT3Error(f"incomplete clip record: {error}") from None


def _is_text(value: Any) -> bool:
    """Whether it is text that can be written: half a surrogate pair, which JSON may hold, cannot."""
    return isinstance(value, str) and value == value.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, eq=False)
class PackedClips:
    """Captioned clips on disk, memory-mapped: opening reads only the records.

    Attributes:
        features: (N, F) float32, not normalised; all clips end to end.
        joints: (N, J, 3) float32 positions in metres.
        clips: the clips, in file order.
        mean: (F,) mean of the features over the train split.
        std: (F,) their standard deviation, averaged within each feature group.
        fps: frames per second of all clips.
        skeleton: the joints.
        path: the file.
    """

    features: Float32 = field(repr=False)
    joints: Float32 = field(repr=False)
    clips: list[Clip] = field(repr=False)
    mean: Float32 = field(repr=False)
    std: Float32 = field(repr=False)
    fps: float
    skeleton: Skeleton = field(repr=False)
    path: Path

    def __len__(self) -> int:
        return len(self.clips)

    def split(self, name: str) -> list[int]:
        """Indices of the clips of one split."""
        return [index for index, clip in enumerate(self.clips) if clip.split == name]

    def clip_features(self, index: int) -> Float32:
        """(T, F) features of one clip, a read-only view into the file."""
        return self.features[self.clips[index].rows]

    def clip_joints(self, index: int) -> Float32:
        """(T, J, 3) joints of one clip in metres, a read-only view into the file."""
        return self.joints[self.clips[index].rows]

    @classmethod
    def open(cls, path: str | Path) -> PackedClips:
        """Map a packed file, or the one in a prepared folder.

        Raises:
            MotionGPT3Error: there is no such file, or it is damaged or not a packed file.
        """
        file = Path(path)
        file = file / PACKED_NAME if file.is_dir() else file
        try:
            header, data = _read_header(file)
            tensors = {name: _map(file, entry, data) for name, entry in header.items() if name != "__metadata__"}
            about = header["__metadata__"]
            if about["format"] != PACKED_FORMAT:
                raise ValueError("unknown format")
            skeleton = _skeleton_from(json.loads(about["skeleton"]))
            clips = [Clip.from_record(record) for record in json.loads(about["clips"])]
            fps = float(about["fps"])
            arrays = [tensors[name] for name in ("features", "joints", "mean", "std")]
        except FileNotFoundError:
            raise MotionGPT3Error(f"there is no packed file {file}; make one with `motiongpt3 data prepare`") from None
        except OSError as error:
            raise MotionGPT3Error(f"cannot read {file}: {error.strerror or error}") from None
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise MotionGPT3Error(f"{file} is damaged or not a packed file ({error}); prepare it again") from None
        features, joints, mean, std = arrays
        rows, size = len(features), feature_size(skeleton)
        shapes = [(rows, size), (rows, len(skeleton), 3), (size,), (size,)]
        if [array.shape for array in arrays] != shapes or not 0 < fps <= 1000:
            raise MotionGPT3Error(f"{file} is damaged: its arrays do not fit its skeleton; prepare it again")
        if any(clip.start + clip.frames > rows for clip in clips):
            raise MotionGPT3Error(f"{file} is damaged: clips reach past its {rows} frames; prepare it again")
        return cls(features, joints, clips, np.array(mean), np.array(std), fps, skeleton, file)

    @classmethod
    def write(
        cls,
        path: str | Path,
        clips: Iterable[tuple[Clip, Float32, Float32]],
        fps: float = 20.0,
        statistics: tuple[Float32, Float32] | None = None,
    ) -> PackedClips:
        """Write clips one after the other and open the result. On any error `path` is as it was.

        Args:
            path: the file to write.
            clips: each with its (T, F) features and (T, J, 3) joints; `start` is set here. Never held in memory
                together.
            fps: frames per second of all clips.
            statistics: (mean, std), each (F,); computed over the train clips (all, if there are none) unless given.

        Raises:
            MotionGPT3Error: no clips, arrays of the wrong shape, or the file cannot be written.
        """
        size = feature_size()
        totals = Statistics()
        records: list[Clip] = []
        rows = 0
        with (
            atomic_path(path) as temporary,
            temporary.open("wb") as file,
            tempfile.TemporaryFile(dir=temporary.parent) as head,
            tempfile.TemporaryFile(dir=temporary.parent) as tail,
        ):
            for clip, features, joints in clips:
                wanted = (clip.frames, size), (clip.frames, len(HUMANML3D), 3)
                if (features.shape, joints.shape) != wanted:
                    raise MotionGPT3Error(f"clip {clip.id!r}: arrays must have shapes {wanted[0]} and {wanted[1]}")
                head.write(np.ascontiguousarray(features, dtype="<f4").data)
                tail.write(np.ascontiguousarray(joints, dtype="<f4").data)
                totals.add(features, clip.split)
                records.append(replace(clip, start=rows))
                rows += clip.frames
            if not records:
                raise MotionGPT3Error(f"nothing to write to {path}: there are no clips")
            mean, std = statistics or totals.result()
            if mean.shape != (size,) or std.shape != (size,):
                raise MotionGPT3Error(f"statistics have shapes {mean.shape} and {std.shape}, not ({size},)")
            shapes = {"features": (rows, size), "joints": (rows, len(HUMANML3D), 3), "mean": (size,), "std": (size,)}
            file.write(_header(shapes, records, fps))
            for part in (head, tail):
                part.seek(0)
                shutil.copyfileobj(part, file, 1 << 24)
            file.write(np.asarray(mean, "<f4").tobytes() + np.asarray(std, "<f4").tobytes())
        return cls.open(path)


class Statistics:
    """Mean and standard deviation of features, gathered clip by clip.

    The deviation is averaged within each feature group (Guo et al. 2022), so that a group keeps its proportions, and
    is 1 for a group that never changes. Only train clips count, or all when there are none.
    """

    def __init__(self) -> None:
        self._sums = {train: np.zeros((3, feature_size())) for train in (True, False)}

    def add(self, features: Float32, split: str) -> None:
        """Count the (T, F) features of one clip."""
        values = features.astype(np.float64)
        sums = self._sums[split == "train"]
        sums += np.stack([np.full(values.shape[1], len(values)), values.sum(0), np.square(values).sum(0)])

    def result(self) -> tuple[Float32, Float32]:
        """Mean and deviation, each (F,) float32."""
        count, total, squares = self._sums[True] if self._sums[True][0, 0] else self._sums[False]
        mean = total / np.maximum(count, 1)
        std = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
        for group in feature_slices():
            average = std[group].mean()
            std[group] = average if average > 1e-6 else 1.0
        return mean.astype(np.float32), std.astype(np.float32)


def _header(shapes: Mapping[str, Sequence[int]], clips: list[Clip], fps: float) -> bytes:
    about = {"format": PACKED_FORMAT, "fps": repr(float(fps)), "skeleton": json.dumps(asdict(HUMANML3D))}
    entries: dict[str, Any] = {"__metadata__": about | {"clips": json.dumps([asdict(clip) for clip in clips])}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise MotionGPT3Error("the captions of all clips exceed 100 MB; split the data set")
    return len(text).to_bytes(8, "little") + text


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header and the byte where the data begin."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(min(length, MAX_HEADER_BYTES))
    if not 0 < len(text) == length:
        raise ValueError("it ends too early")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header, 8 + length


def _map(file: Path, entry: Mapping[str, Any], data: int) -> Float32:
    shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] != "F32" or not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError("unexpected tensor")
    if end - start != 4 * int(np.prod(shape, dtype=object)) or data + end > file.stat().st_size:
        raise ValueError("it ends too early")
    return np.memmap(file, dtype="<f4", mode="r", offset=data + start, shape=shape)


def _skeleton_from(record: Mapping[str, Any]) -> Skeleton:
    """The skeleton of a file's metadata."""

    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list) else value

    skeleton = Skeleton(**{name: freeze(value) for name, value in record.items()})
    return HUMANML3D if skeleton == HUMANML3D else skeleton
