"""Named, versioned protocols: which clips, cut how, against which references, in which groups, judged by what.

A number without its protocol says nothing: published ones differ in all of this. `docs/protocols.md` has them in words.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import FPS
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.motion.skeleton import HUMANML3D

TaskName = Literal["t2m", "m2t", "predict", "inbetween"]

HUMANML3D_ID = re.compile(r"M?\d{6}(_[\d.]+-[\d.]+)?")
"""What `data prepare` calls the clips of HumanML3D, parts of clips included."""


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a number comes about. A change of any value is a new version."""

    name: str
    version: int
    population: Literal["any", "humanml3d"]
    """Data sets it is defined for."""
    evaluator: Literal["tmr", "guo"]
    """Which kind of evaluator embeds motions and texts: our own, or that of Guo et al."""
    packed: bool = True
    """Whether Guo's motion encoder stops at a clip's end or runs over the padding of its batch too."""
    least_frames: int = 20
    """Shorter clips are left out."""
    most_frames: int = 200
    """Longer clips are left out, or cut."""
    cut: bool = False
    """Whether a longer clip is cut to its beginning, and keeps the captions that are true of any part of it."""
    random_crops: bool = False
    """Whether each repeat crops the recordings at random, as `plan` does it."""
    random_captions: bool = False
    """Whether a repeat draws each clip's caption; otherwise repeat r takes the next one in turn."""
    references: int | None = None
    """How many captions of a clip are references, repeated in turn where it has fewer; None: all."""
    group: int = 32
    """Texts and motions of a group of R-precision."""
    labels: bool = False
    """Whether a group has at most one clip of each label."""
    diversity_pairs: int = 300
    """Pairs of motions whose mean distance is the diversity."""
    varied_texts: int = 100
    """Texts of which several motions are made, for the multimodality; fewer where there are fewer."""
    varied_motions: int = 30
    """Motions of each of them."""
    varied_pairs: int = 10
    """Pairs of them that count."""
    repeats: dict[TaskName, int] = field(
        default_factory=lambda: {"t2m": 20, "m2t": 20, "predict": 5, "inbetween": 5}, hash=False
    )
    """How often each task is repeated."""
    predictions: int = 3
    """Predictions of each clip, where a part is given."""
    given_share: float = 0.2
    """How much of a clip is given before a prediction, but `least_given` frames at least."""
    sides_share: float = 0.25
    """How much is given on either side of a gap, but `least_given` frames at least."""
    least_given: int = 20
    """Fewest frames that are given, and fewest that are to be made."""
    refused: dict[TaskName, str] = field(default_factory=dict, hash=False)
    """Tasks that it does not define, and why."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EvaluationProtocol(
            "mocap", 1, "any", "tmr", cut=True, labels=True, varied_texts=16, varied_motions=20
        ),
        EvaluationProtocol("humanml3d-strict", 1, "humanml3d", "guo", least_frames=40, most_frames=199),
        EvaluationProtocol(
            "humanml3d-official", 1, "humanml3d", "guo", packed=False, most_frames=199, random_crops=True,
            random_captions=True, references=3,
            refused={
                "predict": "the published evaluation compares frames that do not belong together; "
                "use humanml3d-strict",
                "inbetween": "the published evaluation compares whole clips, given frames included; "
                "use humanml3d-strict",
            },
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A clip of a protocol's population.

    Attributes:
        row: its place in the packed file.
        name: its id.
        frames: those that count, from its first.
        captions: what happens in them, as people wrote it.
        label: what it shows in two or three words.
    """

    row: int
    name: str
    frames: int
    captions: tuple[str, ...]
    label: str

    def references(self, protocol: EvaluationProtocol) -> list[str]:
        """The captions that count as references."""
        if protocol.references is None:
            return list(self.captions)
        return [self.captions[number % len(self.captions)] for number in range(protocol.references)]


@dataclass(frozen=True)
class Take:
    """An item as one repeat takes it: `frames` frames from `start` on, and one of its captions."""

    item: Item
    start: int
    frames: int
    caption: str

    @property
    def key(self) -> tuple[int, int, int]:
        """Which frames of which clip: equal for takes of the same recording."""
        return self.item.row, self.start, self.frames


def find_protocol(name: str, task: TaskName) -> EvaluationProtocol:
    """A protocol by name; MotionGPT3Error where there is none or it does not define the task."""
    if name not in PROTOCOLS:
        raise MotionGPT3Error(f"there is no protocol {name[:60]!r}; choose among {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    if task in protocol.refused:
        raise MotionGPT3Error(f"{protocol.name} does not define {task}: {protocol.refused[task]}")
    return protocol


def population(
    protocol: EvaluationProtocol, pack: PackedClips, split: str, task: TaskName, limit: int | None = None
) -> list[Item]:
    """The clips that a protocol evaluates, from short to long.

    Args:
        protocol: decides.
        pack: the data set.
        split: train, val or test.
        task: `predict` and `inbetween` leave out clips too short to give a part of; the others those without captions.
        limit: only so many, drawn with seed 0.

    Raises:
        MotionGPT3Error: the data set is not one the protocol is defined for, or no clip is left.
    """
    clips = [(row, pack.clips[row]) for row in pack.split(split)]
    if not clips:
        raise MotionGPT3Error(f"{pack.path} has no clips of split {split}")
    if pack.skeleton != HUMANML3D or pack.fps != FPS:
        raise MotionGPT3Error(
            f"{protocol.name} needs the 22 joints of HumanML3D at {FPS:g} fps; "
            f"{pack.path} has {len(pack.skeleton)} at {pack.fps:g}"
        )
    if protocol.population == "humanml3d":
        strange = [clip.id for _, clip in clips if not HUMANML3D_ID.fullmatch(clip.id)]
        if strange:
            raise MotionGPT3Error(
                f"{protocol.name} is for HumanML3D, and {len(strange)} of {len(clips)} clips are not of it "
                f"(the first is {strange[0]!r}); use the protocol mocap"
            )
    least = max(protocol.least_frames, protocol.least_given * {"predict": 2, "inbetween": 3}.get(task, 0))
    items = []
    for row, clip in clips:
        captions = clip.captions
        if clip.frames > protocol.most_frames and protocol.cut:
            captions = tuple(text for text, safe in zip(clip.captions, clip.crop_safe, strict=True) if safe)
        elif clip.frames > protocol.most_frames:
            continue
        if clip.frames < least or (not captions and task in ("t2m", "m2t")):
            continue
        for text in captions:
            _check_caption(text, clip.id)
        items.append(Item(row, clip.id, min(clip.frames, protocol.most_frames), captions, clip.short or clip.label))
    if not items:
        kind = "with captions " if task in ("t2m", "m2t") else ""
        raise MotionGPT3Error(
            f"no clip {kind}of split {split} has the {least} to {protocol.most_frames} frames of {protocol.name}"
        )
    if protocol.labels and task in ("t2m", "m2t") and not all(item.label for item in items):
        nameless = next(item.name for item in items if not item.label)
        raise MotionGPT3Error(f"{protocol.name} groups clips by what they show, and {nameless!r} has no label")
    if limit is not None and limit < len(items):
        chosen = np.random.RandomState(0).permutation(len(items))[:limit]
        items = [items[number] for number in chosen]
    return sorted(items, key=lambda item: (item.frames, item.name))


def check_model(protocol: EvaluationProtocol, items: Sequence[Item], max_frames: int) -> None:
    """MotionGPT3Error where a model cannot make motions as long as the population's.

    A protocol whose clips were cut to what each model can make would compare different things.
    """
    longest = max(items, key=lambda item: item.frames)
    if longest.frames > max_frames:
        raise MotionGPT3Error(
            f"{protocol.name} has clips of up to {longest.frames / FPS:g} s ({longest.name}), and the model makes at "
            f"most {max_frames / FPS:g} s"
        )


def warn_of_size(protocol: EvaluationProtocol, items: Sequence[Item], channels: int, task: TaskName) -> None:
    """Warn of what so few clips leave undefined."""
    from motiongpt3.evaluation.metrics.retrieval import make_groups

    labels = labels_of(protocol, items)
    groups = make_groups(len(items), protocol.group, None, None if labels is None else torch.tensor(labels))
    size, undefined = len(items), []
    if task in ("t2m", "m2t") and not len(groups):
        kind = " of different labels" if protocol.labels else ""
        undefined.append(f"hold no group of {protocol.group}{kind}: R-precision and MM-Dist are undefined")
    if task != "m2t" and size <= channels:
        needed = f"the {channels + 1} that FID needs in {channels} dimensions"
        undefined.append(f"are fewer than {needed}: it is undefined")
    if task == "t2m" and size < protocol.diversity_pairs:
        undefined.append(f"are fewer than the {protocol.diversity_pairs} of a draw: diversity is undefined")
    for reason in undefined:
        warnings.warn(f"{size} clips {reason}", stacklevel=2)


def plan(protocol: EvaluationProtocol, items: Sequence[Item], repeat: int, seed: int) -> list[Take]:
    """How one repeat takes the clips; the same repeat and seed take them alike.

    Random crops are those of the published evaluation: a third of the clips lose one more unit of four frames than is
    needed to have a multiple of four, and begin at random.
    """
    random = np.random.RandomState([seed, repeat])
    takes = []
    for number, item in enumerate(items):
        start, frames = 0, item.frames
        if protocol.random_crops:
            frames = max(item.frames // 4 - int(random.rand() < 1 / 3), 1) * 4
            start = int(random.randint(item.frames - frames + 1))
        turn = random.randint(1 << 30) if protocol.random_captions else repeat + number
        caption = item.captions[turn % len(item.captions)] if item.captions else ""
        takes.append(Take(item, start, frames, caption))
    return takes


def labels_of(protocol: EvaluationProtocol, items: Sequence[Item]) -> list[int] | None:
    """A number for each item's label, where groups hold each at most once; else None."""
    if not protocol.labels:
        return None
    known = {label: number for number, label in enumerate(sorted({item.label for item in items}))}
    return [known[item.label] for item in items]


def _check_caption(text: str, clip: str) -> None:
    try:
        clean_prompt(text)
    except MotionGPT3Error as error:
        raise MotionGPT3Error(f"a caption of clip {clip!r} cannot be used: {error}") from None
