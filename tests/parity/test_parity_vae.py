"""MLD's motion VAE: encode, decode, padded and single, and the losses it would be trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.official.convert import convert_mld_vae
from motiongpt3.official.losses import official_vae_losses
from motiongpt3.serialization import parse_config

BAR = 1e-5
Read = Callable[[str], Any]
Close = Callable[..., None]


@pytest.fixture(scope="module")
def vae(read: Read) -> MotionVAE:
    made = convert_mld_vae(read("vae_tiny_weights.safetensors"), torch.zeros(263), torch.ones(263))
    vae = MotionVAE(parse_config(VAEConfig, made.config["vae"])).eval()
    vae.load_state_dict(made.tensors)
    return vae


@pytest.mark.parametrize("grad", [False, True])
def test_encode_and_decode(vae: MotionVAE, read: Read, close: Close, grad: bool) -> None:
    record: dict[str, Tensor] = read("vae_tiny_io.safetensors")
    features, lengths = record["feats"], record["lengths"]
    with torch.set_grad_enabled(grad):
        mean, log_variance = vae.encode(features, lengths)
        close(mean.transpose(0, 1), record["mu"], BAR)
        close(log_variance.transpose(0, 1), record["logvar"], BAR)
        alone = vae.encode(features[1:2, : lengths[1]], lengths[1:2])
        close(torch.stack([x[0] for x in alone]), record["dist_single_1"], BAR)
        output, _, _ = vae(features, lengths, record["eps"].transpose(0, 1))
        close(output, record["decode_z"], BAR)
        for name in record:
            if name.startswith("decode_mu_len"):
                asked = [int(number) for number in name.removeprefix("decode_mu_len").split("_")]
                close(vae.decode(mean, torch.tensor(asked)), record[name], BAR)


def test_losses(read: Read, close: Close) -> None:
    record, expected = read("vae_tiny_io.safetensors"), read("vae_tiny_losses.json")
    terms = official_vae_losses(record["decode_z"], record["feats"], record["mu"], record["logvar"])
    for ours, theirs in {"features": "rec", "positions": "vel_slice_4_67", "kl": "kl", "total": "total"}.items():
        close(terms[ours], expected[theirs], BAR)
