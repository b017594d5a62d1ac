"""The four networks of the paper's comparison, built alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from motiongpt3.checkpoints.folder import load_weights, parse_config, read_config
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.baselines.codes import CodeNetwork, SingleStreamCodes
from motiongpt3.models.baselines.single_stream import SingleStream
from motiongpt3.models.baselines.vq import MotionVQ, VQConfig
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.network import Network
from motiongpt3.models.vae import MotionVAE, VAEConfig

Streams = Literal["dual", "single"]


def load_tokeniser(folder: Path) -> MotionVAE | MotionVQ:
    """The motion VAE or VQ-VAE of a folder, frozen; MotionGPT3Error if it holds neither."""
    config: dict[str, Any] = read_config(folder)
    model: MotionVAE | MotionVQ
    if "vq" in config:
        model = MotionVQ(parse_config(VQConfig, config["vq"]))
    else:
        model = MotionVAE(parse_config(VAEConfig, config.get("vae")))
    load_weights(model, folder)
    model.requires_grad_(False).eval()
    return model


def build_network(
    config: MotionGPT3Config, tokeniser: MotionVAE | MotionVQ, streams: Streams, layers: int, dropout: float
) -> Network:
    """A network in which everything but the tokeniser trains, in float32.

    Args:
        config: sizes; the VAE's are those of `tokeniser`.
        tokeniser: a VAE for a diffusion head, a VQ-VAE for codes.
        streams: "dual" adds a motion stream to the language model, "single" does not.
        layers: the language model's first so many layers are used, with its own final norm.
        dropout: everywhere in the network, so that no part has more of it than another.
    """
    backbone = first_layers(load_backbone(config.backbone, dtype=torch.float32), layers)
    network: Network
    if isinstance(tokeniser, MotionVQ):
        kind = CodeNetwork if streams == "dual" else SingleStreamCodes
        network = kind(config, backbone, tokeniser.vq)
    else:
        sizes = replace(config, vae=tokeniser.config)
        network = Network(sizes, backbone) if streams == "dual" else SingleStream(sizes, backbone)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    network.requires_grad_(True)
    network.vae = tokeniser  # type: ignore[assignment]
    return network


def first_layers(backbone: TextBackbone, layers: int) -> TextBackbone:
    """The backbone without its layers after the first `layers`; changed in place."""
    stream = backbone.stream
    if not 1 <= layers <= stream.config.layers:
        raise MotionGPT3Error(f"{backbone.name} has {stream.config.layers} layers: layers cannot be {layers}")
    stream.config = replace(stream.config, layers=layers)
    stream.layers = stream.layers[:layers]
    return backbone


def trained_parameters(network: Network) -> dict[str, int]:
    """Trained parameters of the layers (both streams, projections), of the word embeddings, and of the rest."""
    counts = {"layers": 0, "embeddings": 0, "rest": 0}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inside = name.startswith(("backbone.stream", "motion.", "enter", "leave"))
            table = name in ("backbone.embedding", "backbone.head", "backbone.special")
            counts["layers" if inside else "embeddings" if table else "rest"] += parameter.numel()
    return counts
