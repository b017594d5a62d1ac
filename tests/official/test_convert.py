"""Published checkpoints under our names: equal numbers, complete, or refused by the name of a tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GuoConfig, GuoEvaluator
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.official.convert import (
    EVALUATOR_NAMES,
    VAE_NAMES,
    Converted,
    convert_evaluator,
    convert_mld_vae,
    read_statistics,
)
from motiongpt3.serialization import load_weights, parse_config, read_config, write_folder

MEAN, STD = torch.linspace(-1, 1, 263), torch.linspace(0.1, 1, 263)
VAE = VAEConfig(
    latent_tokens=1, latent_channels=16, width=16, layers=3, mlp_width=24, patch=1, positions=210, norm="post"
)
GUO = GuoConfig(word_channels=6, text_width=8, movement_width=5, movement_channels=7, motion_width=10, channels=9)
STATISTICS = ("feature_mean", "feature_std", "latent_mean", "latent_std")


def old_names(state: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    """Our tensors as the published files name and shape them."""
    found = {}
    for name, tensor in state.items():
        if name in STATISTICS:
            continue
        old = next((old + name.removeprefix(new) for new, old in table.items() if name.startswith(new)), name)
        found[old] = tensor.unsqueeze(1) if old.endswith(".pe") else tensor
    return found


def vae_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return old_names(MotionVAE(VAE).state_dict(), VAE_NAMES)


def evaluator_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return old_names(GuoEvaluator(GUO).state_dict(), EVALUATOR_NAMES)


PARTS: list[Any] = [
    (vae_tensors, convert_mld_vae, "encoder.norm.weight"),
    (evaluator_tensors, convert_evaluator, "text_encoder.hidden"),
]


def test_the_vae_and_its_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = MotionVAE(VAE).eval()
    inside = {f"vae.{name}": tensor for name, tensor in vae_tensors().items()} | {"denoiser.x": torch.ones(2)}
    made = convert_mld_vae(inside, MEAN, STD)
    assert made.ignored == ["denoiser.x"]
    assert made.mapped["vae.query_pos_encoder.pe"] == "encoder_positions"
    assert set(made.mapped) == set(inside) - {"denoiser.x"}
    write_folder(tmp_path, made.config, made.tensors)
    vae = MotionVAE(parse_config(VAEConfig, read_config(tmp_path)["vae"])).eval()
    load_weights(vae, tmp_path)
    features, lengths = torch.randn(2, 30, 263), torch.tensor([30, 22])
    for a, b in zip(vae(features, lengths), original(features, lengths), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(vae.normalise(MEAN), torch.zeros(263))
    latents = torch.randn(3, 1, 16)
    torch.testing.assert_close(vae.normalise_latents(latents), latents * 0.8457)
    alone = convert_mld_vae(vae_tensors(), MEAN, STD)
    assert alone.config == made.config
    assert alone.ignored == []


def test_the_official_sizes(parity_dir: Path) -> None:
    """The keys and shapes of the released checkpoint: both parts are found in it and complete."""
    tensors = {}
    for line in (parity_dir / "keys_full_model.txt").read_text().splitlines():
        name, _, rest = line.partition("\t")
        if name.startswith(("vae.", "metrics.")):
            tensors[name] = torch.ones(1).expand([int(size) for size in re.findall(r"\d+", rest.split("\t")[0])])
    made = convert_mld_vae(tensors, MEAN, STD)
    assert [made.config["vae"][name] for name in ("layers", "width", "mlp_width")] == [9, 256, 1024]
    assert sum(made.tensors[name].numel() for name in made.mapped.values()) == 18_032_135
    made = convert_evaluator(tensors, MEAN, STD)
    assert parse_config(GuoConfig, made.config["guo_evaluator"]) == GuoConfig()
    assert len(made.mapped) == 42
    assert all(name.startswith("metrics.TM2TMetrics.") for name in made.mapped)


def test_the_evaluator_round_trip(tmp_path: Path) -> None:
    made = convert_evaluator(evaluator_tensors() | {"extra": torch.ones(1)}, MEAN, STD)
    assert made.ignored == ["extra"]
    write_folder(tmp_path, made.config, made.tensors)
    loaded = GuoEvaluator.load(tmp_path)
    torch.manual_seed(0)
    original = GuoEvaluator(GUO)
    assert loaded.config == GUO
    for name, tensor in original.state_dict().items():
        if name not in STATISTICS:
            assert torch.equal(tensor, loaded.state_dict()[name])
    assert torch.equal(loaded.feature_std, STD)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_becomes_float(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in vae_tensors().items()}
    made = convert_mld_vae(tensors, MEAN, STD)
    assert {tensor.dtype for tensor in made.tensors.values()} == {torch.float32}
    assert torch.equal(made.tensors["embed.weight"], tensors["skel_embedding.weight"].float())


@pytest.mark.parametrize(("make", "convert", "name"), PARTS)
def test_what_does_not_fit_is_named(
    make: Callable[[], dict[str, Tensor]], convert: Callable[..., Converted], name: str
) -> None:
    good = make()
    assert convert(good, MEAN, STD).mapped.keys() == good.keys()
    for key in good:  # every single one is needed
        with pytest.raises(MotionGPT3Error, match=r"missing|does not fit"):
            convert({other: tensor for other, tensor in good.items() if other != key}, MEAN, STD)
    values = good[name]
    for change, message in [
        (None, f"{name} is missing"),
        (torch.cat([values, values]), f"{name} has shape"),
        (values.double(), f"{name} holds torch.float64"),
        (values.int(), f"{name} holds torch.int32"),
        (values.bool(), f"{name} holds torch.bool"),
        (values * math.nan, f"{name} holds values that are not finite"),
        (values / 0, f"{name} holds values that are not finite"),
    ]:
        tensors = {**good, name: change} if change is not None else {n: t for n, t in good.items() if n != name}
        with pytest.raises(MotionGPT3Error, match=message) as caught:
            convert(tensors, MEAN, STD)
        assert "\n" not in str(caught.value)
    for extra in (f"{name}2", name.replace("encoder", "encoder.x", 1)):
        with pytest.raises(MotionGPT3Error, match=f"unexpected tensor {extra}"):
            convert({**good, extra: values}, MEAN, STD)
    for tensors in ({}, {"model.embed_tokens.weight": torch.ones(3, 3)}):
        with pytest.raises(MotionGPT3Error, match="does not fit"):
            convert(tensors, MEAN, STD)
    for mean, std, message in [(MEAN[1:], STD, "262 numbers"), (MEAN, MEAN, "above 0"), (MEAN, STD[:0], "0 numbers")]:
        with pytest.raises(MotionGPT3Error, match=message):
            convert(good, mean, std)


def test_our_own_names_and_other_vaes_are_refused() -> None:
    good = vae_tensors()
    with pytest.raises(MotionGPT3Error, match=r"unexpected tensor embed\.bias"):
        convert_mld_vae({**good, "embed.bias": good["skel_embedding.bias"]}, MEAN, STD)
    with pytest.raises(MotionGPT3Error, match="unexpected tensor feature_mean"):
        convert_mld_vae({**good, "feature_mean": MEAN}, MEAN, STD)
    with pytest.raises(MotionGPT3Error, match="more than one latent token"):
        convert_mld_vae({**good, "global_motion_token": torch.ones(4, 16)}, MEAN, STD)
    many = {f"encoder.input_blocks.{number}.x": torch.ones(1) for number in range(5000)}
    with pytest.raises(MotionGPT3Error, match=r"1000[13] layers"):
        convert_mld_vae(good | many, MEAN, STD)
    for width in (0, 200_000, 18):
        tensors = {**good, "global_motion_token": torch.ones(1).expand(2, width)}
        with pytest.raises(MotionGPT3Error):
            convert_mld_vae(tensors, MEAN, STD)


def test_statistics_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    assert read_statistics(tmp_path / "a.npy").tolist() == [0, 1, 2]
    for bad in (np.ones((2, 2)), np.array([math.nan]), np.array(["x"]), np.array([object()])):
        np.save(tmp_path / "b.npy", bad)
        with pytest.raises(MotionGPT3Error):
            read_statistics(tmp_path / "b.npy")
