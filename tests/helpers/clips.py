"""Motions for the format tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch

from motiongpt3.motion.kinematics import forward
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


def invented(seed: int = 0, frames: int = 12, fps: float = 20.0, wildness: float = 0.6) -> Motion:
    """A smooth random motion with HumanML3D's bones."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, 22, 3, generator=generator, dtype=torch.float64) * wildness
    weight = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None, None]
    rotations = roma.rotvec_to_rotmat(keys[0] * (1 - weight) + keys[1] * weight)
    root = torch.tensor([0.0, 0.9, 0.0]) + weight[:, 0] * torch.randn(3, generator=generator, dtype=torch.float64)
    joints = forward(rotations, torch.from_numpy(HUMANML3D.rest_offsets).double(), root)
    return Motion(joints.numpy(), fps=fps, caption="a person moves.", name=f"clip {seed}")


def recorded(folder: Path, split: str, count: int) -> list[Motion]:
    """Clips of the captioned motion capture, evenly spread over a split."""
    clips, arrays = _recordings(folder)
    chosen = [clip for clip in clips if clip["split"] == split]
    return [_motion(chosen[i], arrays) for i in np.linspace(0, len(chosen) - 1, count).astype(int)]


def recording(folder: Path, name: str) -> Motion:
    """The clip with this id."""
    clips, arrays = _recordings(folder)
    return _motion(next(clip for clip in clips if clip["id"] == name), arrays)


@cache
def _recordings(folder: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    with np.load(folder / "joints.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()], arrays


def _motion(clip: dict[str, Any], arrays: dict[str, np.ndarray]) -> Motion:
    rows = slice(clip["offset"], clip["offset"] + clip["frames"])
    joints = arrays["offsets"][rows] * arrays["metres_per_unit"] + arrays["root"][rows][:, None]
    return Motion(joints, fps=float(arrays["fps"]), name=clip["id"])


def aligned_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance in metres after the best turn about y and the shift of the first root: (T, J, 3) each."""
    found, wanted = found - found[0, 0], wanted - wanted[0, 0]
    a, b = found[..., 0] + 1j * found[..., 2], wanted[..., 0] + 1j * wanted[..., 2]
    turn = (np.conj(a) * b).sum()
    a = a * turn / abs(turn)
    return float(np.sqrt(abs(a - b) ** 2 + (found[..., 1] - wanted[..., 1]) ** 2).mean())
