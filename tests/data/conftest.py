"""Small synthetic clips and mocap folders for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from motiongpt3.data.augment import Captioned
from motiongpt3.motion.skeleton import HUMANML3D

SPLITS = ("train", "train", "train", "val", "test")


def make_walk(frames: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """(frames, 22, 3): a person of the usual size who walks along +z and swings every limb a little."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    joints = np.zeros((frames, 22, 3))
    joints[:, 0] = np.stack([0 * time, 0.93 + 0 * time, rng.uniform(0.02, 0.06) * time], axis=-1)
    for joint in range(1, 22):
        rest = HUMANML3D.rest_offsets[joint] + (np.array([0.2, 0, 0]) if joint == 16 else 0)
        rest = rest - (np.array([0.2, 0, 0]) if joint == 17 else 0)
        swing = 0.0 if joint in (1, 2, 13, 14, 16, 17) else 0.2
        bone = rest + swing * np.linalg.norm(rest) * np.sin(time[:, None] / 4 + rng.normal(size=3))
        bone *= HUMANML3D.bone_lengths[joint] / np.linalg.norm(bone, axis=-1, keepdims=True)
        joints[:, joint] = joints[:, HUMANML3D.parents[joint]] + bone
    joints[..., 1] -= joints[..., 1].min()
    return joints.astype(np.float32)


def make_mocap(
    folder: Path, clips: list[NDArray[np.float32]] | None = None, fps: float = 20.0, **changes: dict[int, Any]
) -> Path:
    """A mocap folder; `changes` maps a record's key to {clip number: value}."""
    clips = [make_walk(24 + i, seed=i) for i in range(5)] if clips is None else clips
    folder.mkdir(parents=True, exist_ok=True)
    root = np.concatenate([clip[:, 0] for clip in clips])
    with np.errstate(invalid="ignore"):
        scaled = np.concatenate([clip - clip[:, :1] for clip in clips]) / 1e-4
        offsets = (
            scaled.round() if np.nanmax(np.abs(scaled)) > 32000 else np.nan_to_num(scaled.round()).astype(np.int16)
        )
    np.savez(folder / "joints.npz", root=root, offsets=offsets, metres_per_unit=np.float32(1e-4), fps=np.float32(fps))
    start, lines = 0, []
    for number, clip in enumerate(clips):
        record = {
            "id": f"clip_{number}", "source": "synthetic", "license": "CC0-1.0" if number % 2 else "MIT",
            "split": SPLITS[number % 5], "frames": len(clip), "offset": start, "label": "walk", "short": "walk",
            "captions": [f"a person walks, number {number}.", "someone steps #1 ahead."], "crop_safe": [True, False],
        }  # fmt: skip
        record |= {key: values[number] for key, values in changes.items() if number in values}
        lines.append(json.dumps(record))
        start += len(clip)
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def walk() -> Callable[..., NDArray[np.float32]]:
    """`walk(frames, seed)`: the joints of a short walk."""
    return make_walk


@pytest.fixture
def write_mocap() -> Callable[..., Path]:
    """`write_mocap(folder, clips, fps, **changes)`: a mocap folder."""
    return make_mocap


@pytest.fixture(scope="session")
def real_clips(mocap_dir: Path) -> list[Captioned]:
    """Every fourth training clip of the real data."""
    with np.load(mocap_dir / "joints.npz") as arrays:
        root, offsets, unit = arrays["root"], arrays["offsets"], np.float32(arrays["metres_per_unit"])
    out = []
    for line in (mocap_dir / "clips.jsonl").read_text().splitlines()[::4]:
        record = json.loads(line)
        if record["split"] == "train":
            span = slice(record["offset"], record["offset"] + record["frames"])
            joints = root[span, None] + offsets[span] * unit
            out.append(Captioned(record["id"], record["short"], record["captions"], record["crop_safe"], joints))
    return out
