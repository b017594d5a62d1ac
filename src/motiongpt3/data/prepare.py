"""Turn recordings and captions into the data set that training reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from motiongpt3.data.clips import PACKED_NAME, SPLITS, Clip, PackedClips
from motiongpt3.data.sources import NAME, Problem, Source, SourceClip, joint_problems, open_source
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        folder: where the data set is.
        clips: number of clips of each split.
        frames: number of frames in all.
        left_out: number of clips left out because of their licence.
        problems: why clips were skipped (errors), and what is odd about others (warnings).
    """

    folder: Path
    clips: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    left_out: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def skipped(self) -> list[Problem]:
        """The problems that cost a clip."""
        return [problem for problem in self.problems if problem.severity == "error"]


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    licenses: Collection[str] | None = None,
    layout: bool = True,
    min_frames: int = 20,
    fps: float = 20.0,
    overwrite: bool = False,
    skeleton: Skeleton = HUMANML3D,
    progress: bool | None = None,
) -> Prepared:
    """Make a data set: the HumanML3D layout and one packed, memory-mapped file.

    The layout is new_joint_vecs/*.npy (T, F), new_joints/*.npy (T, J, 3), texts/*.txt, Mean.npy, Std.npy, train.txt,
    val.txt and test.txt; the packed file is packed.safetensors (see `PackedClips`). Bad clips are skipped and
    reported. The folder appears when it is complete or not at all.

    Args:
        source: a folder that `sources.open_source` knows.
        out: the folder to make.
        licenses: keep only clips under these licences; None keeps all.
        layout: False writes only the packed file.
        min_frames: shorter clips are skipped.
        fps: frames per second of the result.
        overwrite: replace `out` if it exists.
        skeleton: the joints.
        progress: show a progress bar; None shows it on a terminal.

    Raises:
        MotionGPT3Error: the source is no data set or has no usable clip, `out` exists or cannot be written.
    """
    target = Path(out)
    if target.exists() and not overwrite and not (target.is_dir() and not any(target.iterdir())):
        raise MotionGPT3Error(f"{target} exists; choose another folder or allow to overwrite it")
    opened = open_source(source, fps, skeleton)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {target}: {error.strerror or error}") from None
    try:
        job = _Job(folder, opened, set(licenses) if licenses is not None else None, layout, min_frames, fps, skeleton)
        packed = job.run(progress)
        folder.chmod(0o755)
        _put(folder, target)
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts = Counter(clip.split for clip in packed.clips)
    return Prepared(
        target, {split: counts[split] for split in SPLITS}, len(packed.features), job.left_out, job.problems
    )


@dataclass
class _Job:
    folder: Path
    source: Source
    licenses: set[str] | None
    layout: bool
    min_frames: int
    fps: float
    skeleton: Skeleton
    left_out: int = 0
    problems: list[Problem] = field(default_factory=list)

    def run(self, progress: bool | None) -> PackedClips:
        if self.layout:
            for name in ("new_joint_vecs", "new_joints", "texts"):
                (self.folder / name).mkdir()
        disable = None if progress is None else not progress
        bar = tqdm(self.source.items, desc="preparing", unit="clip", total=self.source.total, disable=disable)
        clips = self._clips(bar)
        first = next(clips, None)
        if first is None:
            reason = next((str(problem) for problem in self.problems), "every clip has another licence")
            raise MotionGPT3Error(f"no usable clip among {self.source.total}: {reason}")

        def all_clips() -> Iterator[tuple[Clip, NDArray[np.float32], NDArray[np.float32]]]:
            yield first
            yield from clips

        packed = PackedClips.write(self.folder / PACKED_NAME, all_clips(), self.fps, self.skeleton)
        if self.layout:
            np.save(self.folder / "Mean.npy", packed.mean)
            np.save(self.folder / "Std.npy", packed.std)
            for split in SPLITS:
                ids = [packed.clips[index].id for index in packed.split(split)]
                _write_lines(self.folder / f"{split}.txt", ids)
        return packed

    def _clips(
        self, items: Iterable[SourceClip | Problem]
    ) -> Iterator[tuple[Clip, NDArray[np.float32], NDArray[np.float32]]]:
        seen: set[str] = set()
        for item in items:
            if isinstance(item, Problem):
                self.problems.append(item)
                continue
            if not item.clip.allowed(self.licenses):
                self.left_out += 1
                continue
            found = self._judge(item, seen)
            self.problems.extend(found)
            if any(problem.severity == "error" for problem in found):
                continue
            features = item.features
            if features is None:
                with torch.inference_mode():
                    features = joints_to_features(torch.from_numpy(item.joints), self.skeleton, fps=self.fps).numpy()
            if not np.isfinite(features).all():
                self.problems.append(Problem(item.file, "features contain NaN or infinite values"))
                continue
            seen.add(item.clip.id)
            if self.layout:
                self._write_files(item.clip, features, item.joints)
            yield item.clip, features, item.joints

    def _judge(self, item: SourceClip, seen: set[str]) -> list[Problem]:
        clip = item.clip
        if not NAME.fullmatch(clip.id):
            return [Problem(item.file, f"{clip.id[:60]!r} cannot be a file name")]
        if clip.id in seen:
            return [Problem(item.file, f"{clip.id} is there a second time")]
        if clip.frames < self.min_frames:
            return [Problem(item.file, f"has {clip.frames} frames; a clip needs {self.min_frames}")]
        return joint_problems(item.file, item.joints, self.fps, self.skeleton)

    def _write_files(self, clip: Clip, features: NDArray[np.float32], joints: NDArray[np.float32]) -> None:
        np.save(self.folder / "new_joint_vecs" / f"{clip.id}.npy", features)
        np.save(self.folder / "new_joints" / f"{clip.id}.npy", joints)
        _write_lines(self.folder / "texts" / f"{clip.id}.txt", [_caption_line(caption) for caption in clip.captions])


def _caption_line(caption: str) -> str:
    """`caption#tokens#from#to`; without a tagger every token has the part of speech OTHER, which loaders know."""
    text = " ".join(caption.replace("#", " ").split())
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    return f"{text}#{' '.join(f'{word}/OTHER' for word in words)}#0.0#0.0"


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _put(folder: Path, target: Path, rename: Callable[[Path, Path], None] = os.rename) -> None:
    """Move a finished folder into place; an old one is put aside first and put back if that fails."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        rename(folder, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent)) / target.name
    rename(target, aside)
    try:
        rename(folder, target)
    except OSError:
        rename(aside, target)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
