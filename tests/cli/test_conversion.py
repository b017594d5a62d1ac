"""`motiongpt3 convert`: from a torch file to a folder that loads, or one line and nothing on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from motiongpt3.cli.main import main
from motiongpt3.evaluation.guo import GuoConfig, GuoEvaluator
from motiongpt3.models.vae import MotionVAE, VAEConfig

Capture = pytest.CaptureFixture[str]
OUT = ["-o", "out", "--mean", "mean.npy", "--std", "std.npy"]
RENAMED = {
    "embed.weight": "skel_embedding.weight",
    "embed.bias": "skel_embedding.bias",
    "distribution_tokens": "global_motion_token",
    "encoder_positions": "query_pos_encoder.pe",
    "decoder_positions": "query_pos_decoder.pe",
    "to_features.weight": "final_layer.weight",
    "to_features.bias": "final_layer.bias",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with mean.npy and std.npy."""
    monkeypatch.chdir(tmp_path)
    np.save("mean.npy", np.zeros(263, np.float32))
    np.save("std.npy", np.full(263, 2.0))
    return tmp_path


def vae_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    config = VAEConfig(latent_tokens=1, latent_channels=8, width=8, layers=3, mlp_width=8, patch=1, positions=210)
    state = {n: t for n, t in MotionVAE(config).state_dict().items() if not n.startswith(("latent_", "feature_"))}
    return {
        "vae." + RENAMED.get(name, name): tensor.unsqueeze(1) if "positions" in name else tensor
        for name, tensor in state.items()
    }


def convert(kind: str, file: str, *options: str) -> int:
    return main(["convert", kind, file, *OUT, *options])


@pytest.mark.slow
def test_the_vae(here: Path, refused: Callable[..., str], capsys: Capture) -> None:
    torch.save({"epoch": 1, "state_dict": vae_state() | {"denoiser.x": torch.ones(1)}}, "mld.ckpt")
    assert convert("mld-vae", "mld.ckpt") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"mapped   {len(vae_state())} tensors"
    assert "  vae.skel_embedding.weight -> embed.weight" in printed
    assert printed[-5:] == [
        "ignored  1 tensors of other parts",
        "  denoiser.*: 1",
        "ignored  1 entries that are no tensors of a model: epoch",
        "missed   0 tensors",
        "out",
    ]
    assert main(["info", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["vae"]["width"] == 8
    assert "is there already" in refused("convert", "mld-vae", "mld.ckpt", *OUT)


@pytest.mark.slow
def test_the_evaluator_in_the_old_format(here: Path, capsys: Capture) -> None:
    sizes = GuoConfig(word_channels=6, text_width=8, movement_width=5, movement_channels=7, motion_width=10, channels=9)
    names = {"start": "hidden", "embed": "input_emb", "out": "output_net", "gru": "gru"}
    content: dict[str, Any] = {"text_encoder": {}, "movement_encoder": {}, "motion_encoder": {}, "epoch": 4}
    for name, tensor in GuoEvaluator(sizes).state_dict().items():
        part, _, rest = name.partition(".")
        if part in ("text", "motion"):
            first, dot, last = rest.partition(".")
            content[f"{part}_encoder"][names[first] + dot + last] = tensor
        elif part == "embed_class":
            content["text_encoder"][f"pos_emb.{rest}"] = tensor
        elif part == "movement":
            content["movement_encoder"][f"main.{rest.replace('2.', '3.')}"] = tensor
        elif part == "movement_out":
            content["movement_encoder"][f"out_net.{rest}"] = tensor
    torch.save(content, "finest.tar", _use_new_zipfile_serialization=False)
    assert convert("evaluator", "finest.tar", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["mapped"]) == 42
    assert (report["ignored"], report["missed"]) == (["epoch"], [])
    assert GuoEvaluator.load("out").config == sizes
    assert main(["info", "out"]) == 0
    assert "evaluator" in capsys.readouterr().out


@pytest.mark.slow
def test_refusals(here: Path, refused: Callable[..., str]) -> None:
    state = vae_state()
    torch.save({"state_dict": {**state, "vae.encoder.norm.bias": torch.full((8,), math.nan)}}, "nan.ckpt")
    assert "vae.encoder.norm.bias holds values that are not finite" in refused("convert", "mld-vae", "nan.ckpt", *OUT)
    Path("text.ckpt").write_text("hello")
    assert "text.ckpt is refused" in refused("convert", "mld-vae", "text.ckpt", *OUT)
    assert "cannot read nowhere.ckpt" in refused("convert", "mld-vae", "nowhere.ckpt", *OUT)
    Path("std.npy").unlink()
    assert "std.npy" in refused("convert", "mld-vae", "nan.ckpt", *OUT)
    assert "missing: --mean, --std" in refused("convert", "mld-vae", "nan.ckpt", "-o", "out")
