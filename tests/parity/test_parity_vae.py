"""MLD's motion VAE: encode, decode, padded and single, and the losses it would be trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.models.vae import MotionVAE, VAEConfig, kl_divergence
from motiongpt3.motion.features import feature_slices
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.official.convert import convert_mld_vae
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


def vae_losses(output: Tensor, features: Tensor, mean: Tensor, log_variance: Tensor) -> dict[str, Tensor]:
    """Terms and sum of the official VAE loss, over padding too, of what our VAE gives.

    `features` and `positions` are smooth L1 over all channels and over those of the joints' positions.
    """
    positions = feature_slices(HUMANML3D).positions
    terms = {
        "features": F.smooth_l1_loss(output, features),
        "positions": F.smooth_l1_loss(output[..., positions], features[..., positions]),
        "kl": kl_divergence(mean, log_variance),
    }
    return terms | {"total": terms["features"] + 0.5 * terms["positions"] + 1e-5 * terms["kl"]}


@torch.no_grad()
def test_losses(vae: MotionVAE, read: Read, close: Close) -> None:
    """The recorded losses follow from what our VAE gives for the recorded features."""
    record, expected = read("vae_tiny_io.safetensors"), read("vae_tiny_losses.json")
    features, lengths = record["feats"], record["lengths"]
    output, mean, log_variance = vae(features, lengths, record["eps"].transpose(0, 1))
    terms = vae_losses(output, features, mean, log_variance)
    for ours, theirs in {"features": "rec", "positions": "vel_slice_4_67", "kl": "kl", "total": "total"}.items():
        close(terms[ours], expected[theirs], BAR)
