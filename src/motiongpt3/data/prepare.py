"""Turn recordings and captions into the data set that training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from motiongpt3.data.check import joint_problems
from motiongpt3.data.clips import PACKED_NAME, SPLITS, Clip, PackedClips
from motiongpt3.data.sources import CLIP_NAME, Problem, SourceClip, open_source
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import ReadOptions
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.skeleton import Float32
from motiongpt3.serialization import atomic_folder


@dataclass
class PrepareReport:
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
    progress: bool | None = None,
    reading: ReadOptions | None = None,
) -> PrepareReport:
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
        progress: show a progress bar; None shows it on a terminal.
        reading: axes, unit, rate and names of recordings, where told.

    Raises:
        MotionGPT3Error: the source is no data set or has no usable clip, `out` exists or cannot be written.
    """
    report = PrepareReport(Path(out))
    if report.folder.exists() and not overwrite and not (report.folder.is_dir() and not any(report.folder.iterdir())):
        raise MotionGPT3Error(f"{out} exists; choose another folder or allow to overwrite it")
    opened = open_source(source, fps, reading)
    disable = None if progress is None else not progress
    bar = tqdm(opened.items, desc="preparing", unit="clip", total=opened.total, disable=disable)

    def usable() -> Iterator[tuple[Clip, Float32, Float32]]:
        """Clips with their features and joints; what is wrong with the others goes to the report."""
        seen: set[str] = set()
        for item in bar:
            if isinstance(item, Problem):
                report.problems.append(item)
                continue
            if not item.clip.allowed(licenses):
                report.left_out += 1
                continue
            found = _clip_problems(item, seen, min_frames, fps)
            report.problems += found
            if any(problem.severity == "error" for problem in found):
                continue
            features = item.features
            if features is None:
                with torch.inference_mode():
                    features = joints_to_features(torch.from_numpy(item.joints), fps=fps).numpy()
            if not np.isfinite(features).all():
                report.problems.append(Problem(item.file, "features contain NaN or infinite values"))
                continue
            seen.add(item.clip.id)
            yield item.clip, features, item.joints

    with atomic_folder(report.folder) as folder:
        clips = _with_layout(folder, usable()) if layout else usable()
        first = next(clips, None)
        if first is None:
            reason = next((str(problem) for problem in report.problems), "every clip has another licence")
            raise MotionGPT3Error(f"no usable clip among {opened.total}: {reason}")
        packed = PackedClips.write(folder / PACKED_NAME, chain([first], clips), fps)
        if layout:
            np.save(folder / "Mean.npy", packed.mean)
            np.save(folder / "Std.npy", packed.std)
            for split in SPLITS:
                _write_lines(folder / f"{split}.txt", [packed.clips[index].id for index in packed.split(split)])
    counts = Counter(clip.split for clip in packed.clips)
    report.clips, report.frames = {split: counts[split] for split in SPLITS}, len(packed.features)
    return report


def _clip_problems(item: SourceClip, seen: set[str], min_frames: int, fps: float) -> list[Problem]:
    clip = item.clip
    if not CLIP_NAME.fullmatch(clip.id):
        return [Problem(item.file, f"{clip.id[:60]!r} cannot be a file name")]
    if clip.id in seen:
        return [Problem(item.file, f"{clip.id} is there a second time")]
    if clip.frames < min_frames:
        return [Problem(item.file, f"has {clip.frames} frames; a clip needs {min_frames}")]
    return joint_problems(item.file, item.joints, fps)


def _with_layout(
    folder: Path, clips: Iterable[tuple[Clip, Float32, Float32]]
) -> Iterator[tuple[Clip, Float32, Float32]]:
    """The same clips; each is also written to files of the HumanML3D layout."""
    for name in ("new_joint_vecs", "new_joints", "texts"):
        (folder / name).mkdir()
    for clip, features, joints in clips:
        np.save(folder / "new_joint_vecs" / f"{clip.id}.npy", features)
        np.save(folder / "new_joints" / f"{clip.id}.npy", joints)
        _write_lines(folder / "texts" / f"{clip.id}.txt", [_caption_line(caption) for caption in clip.captions])
        yield clip, features, joints


def _caption_line(caption: str) -> str:
    """`caption#tokens#from#to`; without a tagger every token has the part of speech OTHER, which loaders know."""
    text = " ".join(caption.replace("#", " ").split())
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    return f"{text}#{' '.join(f'{word}/OTHER' for word in words)}#0.0#0.0"


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
