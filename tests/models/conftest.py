"""A tiny model that reads motions, motions for it, and language models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from language_models import tiny, tokenizer
from safetensors.torch import save_file

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


@pytest.fixture(scope="session")
def reader(tiny_reader_dir: Path) -> MotionGPT3:
    """The model of `tiny_reader_dir`; it must not be changed."""
    return MotionGPT3.from_pretrained(tiny_reader_dir)


def sway(frames: int, seed: int = 0, fps: float = 20.0) -> Motion:
    """Somebody who stands and sways."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((frames, 22, 3))
    for joint in range(1, 22):
        joints[:, joint] = joints[:, HUMANML3D.parents[joint]] + HUMANML3D.rest_offsets[joint]
    time = np.arange(frames)[:, None, None] / fps
    joints = joints + 0.05 * np.sin(3 * time + rng.normal(size=(1, 22, 3)))
    joints[..., 1] -= joints[..., 1].min()
    return Motion(joints.astype(np.float32), fps)


@pytest.fixture(scope="session")
def motions() -> list[Motion]:
    """Six motions of 24 to 54 frames."""
    return [sway(24 + 6 * number, number) for number in range(6)]


@pytest.fixture
def backbone_folder(tmp_path: Path) -> Path:
    """A folder as the hub has them: config.json, tokenizer.json and model.safetensors of a tiny Llama."""
    model = tiny("llama")
    save_file(
        {k: v.clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture(scope="module")
def smollm() -> TextBackbone:
    """The default backbone; whoever asks for it is skipped where it cannot be had."""
    try:
        return load_backbone(dtype=torch.float32).freeze()
    except MotionGPT3Error as error:
        pytest.skip(f"the default backbone cannot be had: {error}")
