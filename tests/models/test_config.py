"""Configurations: sizes of the head follow the rest, and a hostile one is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_model import build

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.motiongpt3 import MotionGPT3


@pytest.fixture
def folder(tiny_backbone: Path, tmp_path: Path) -> Path:
    build(tiny_backbone).save_pretrained(tmp_path)
    return tmp_path


def test_sizes_of_the_head_follow_the_rest(tiny_backbone: Path) -> None:
    config = build(tiny_backbone).config
    assert (config.head.queries, config.head.hidden) == (3, 16)
    assert (config.head.latent_tokens, config.head.latent_channels) == (2, 8)
    assert MotionGPT3Config.from_dict(json.loads(json.dumps(asdict(config)))) == config


Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.pop("vae"),
        lambda c: c.update(vae=[1]),
        lambda c: c.update(surprise=1),
        lambda c: c["vae"].update(surprise=1),
        lambda c: c["vae"].update(layers="three"),
        lambda c: c["vae"].update(layers=4),
        lambda c: c["vae"].update(width=-16),
        lambda c: c["vae"].update(width=10**12),
        lambda c: c["vae"].update(width=99_998, heads=1),
        lambda c: c["vae"].update(heads=3),
        lambda c: c["vae"].update(heads=0),
        lambda c: c["vae"].update(patch=0),
        lambda c: c["vae"].update(positions=2),
        lambda c: c["vae"].update(norm="sideways"),
        lambda c: c["head"].update(objective="guess"),
        lambda c: c["head"].update(pool_heads=5),
        lambda c: c["head"].update(positions=1),
        lambda c: c["head"].update(beta_end=None),
        lambda c: c.update(queries=True),
        lambda c: c.update(motion_width=60_000),
        lambda c: c.update(motion_dropout=2.0),
        lambda c: c.update(prompt_style="loud"),
        lambda c: c.update(shared_layers="some"),
        lambda c: c.update(shared_layers=-1),
        lambda c: c.update(shared_layers=3),
        lambda c: c.update(fps=0),
        lambda c: c.update(fps=float("nan")),
        lambda c: c.update(format=2),
        lambda c: c.pop("format"),
        lambda c: c.update(backbone=7),
        lambda c: c.update(backbone="/no/such/folder"),
        lambda c: c.update(backbone_identity=[]),
        lambda c: c["backbone_identity"].update(sha256="0" * 64),
        lambda c: c["backbone_identity"].update(sha256=5),
    ],
)
def test_a_hostile_configuration_is_one_line(folder: Path, edit: Edit) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MotionGPT3Error) as caught:
        MotionGPT3.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_the_longest_motion_follows_the_vae_and_the_frame_rate(tiny_backbone: Path) -> None:
    config = build(tiny_backbone).config
    assert config.max_seconds == 3
    assert replace(config, fps=30.0).max_seconds == 2


@pytest.mark.parametrize("fps", [0, -20, 1001])
def test_a_frame_rate_out_of_range_is_named(tiny_backbone: Path, fps: float) -> None:
    values = asdict(build(tiny_backbone).config) | {"fps": float(fps)}
    with pytest.raises(MotionGPT3Error, match=f"fps is {fps}"):
        MotionGPT3Config.from_dict(values)
