"""The four networks of the paper's comparison: dual or single stream, latents or codes; `build_network` makes them.

A single stream differs from the dual one only in where motion tokens find their parameters: in the language model's own
layers, between two projections. The queries, the length head, the diffusion head and the VAE are the same, at the same
widths. A network of codes predicts those of patch after patch where another draws latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from motiongpt3.baselines.vq import MotionVQ, VQConfig
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.network import Network
from motiongpt3.models.sequence import pack_outputs
from motiongpt3.models.vae import MotionVAE, load_vae
from motiongpt3.serialization import load_weights, parse_config, read_config


class CodeHead(nn.Module):
    """Scores of the codes of each book, given a hidden state and the codes of the books before it.

    A light form of the depth transformer of RQ-Transformer (Lee et al. 2022): the codes so far come in as the sum of
    their embeddings, and one MLP serves all books. With one book this is a linear map.

    Args:
        width: of the hidden states.
        books: codes per patch.
        codes: of each book.
    """

    def __init__(self, width: int, books: int, codes: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(books, codes, width) * 0.02)
        self.scores = nn.ModuleList(nn.Linear(width, codes) for _ in range(books))
        self.mix: nn.Module | None = None
        if books > 1:
            self.mix = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (..., books) -> (..., books, width)."""
        return torch.stack([table[codes[..., book]] for book, table in enumerate(self.table)], -2)

    def _score(self, hidden: Tensor, book: int) -> Tensor:
        if self.mix is not None:
            hidden = hidden + self.mix(hidden)
        scores: Tensor = self.scores[book](hidden)
        return scores

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Hidden states (..., width) and the true codes (..., books) -> scores (..., books, codes)."""
        known = self.embed(codes).cumsum(-2)
        told = [hidden, *(hidden + known[..., book, :] for book in range(len(self.scores) - 1))]
        return torch.stack([self._score(x, book) for book, x in enumerate(told)], -2)

    def draw(self, hidden: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Hidden states (B, width) -> codes (B, books), each drawn after those of the books before it.

        A temperature of 0 takes the likeliest.
        """
        codes: list[Tensor] = []
        for book, table in enumerate(self.table):
            scores = self._score(hidden, book).float()
            if temperature:
                code = torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator).squeeze(-1)
            else:
                code = scores.argmax(-1)
            codes.append(code)
            hidden = hidden + table[code]
        return torch.stack(codes, -1)


class SingleStreamTransformer(nn.Module):
    """One stream for both modalities, called like `BimodalTransformer`; words and motion share every matrix product.

    A `BimodalTransformer` with one stream twice would compute the same, but draw other masks of dropout.

    Args:
        stream: the language model's layers.
        enter: motion tokens to the language model's width.
        leave: final hidden states of motion tokens to the motion width.
    """

    def __init__(self, stream: Stream, enter: nn.Module, leave: nn.Module) -> None:
        super().__init__()
        self.blocks = BimodalTransformer(stream, stream)
        self.enter = enter
        self.leave = leave

    def forward(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """As `BimodalTransformer.forward`; the cache holds all tokens as text."""
        words = [] if text is None else [text]
        moves = [] if motion is None else [replace(motion, embeddings=self.enter(motion.embeddings))]
        hidden, _ = self.blocks(_join([*words, *moves]) if words or moves else None, None, cache)
        assert hidden is not None
        count = 0 if text is None else text.mask.shape[1]
        return (
            None if text is None else hidden[:, :count],
            None if motion is None else self.leave(hidden[:, count:]),
        )


class Scaled(nn.Module):
    """Tokens (..., width) brought to one root mean square: that of the words.

    Left to themselves motion tokens grow to thirty times the size of words within 700 steps, and what attention adds to
    them, all they know of the words, is lost beside it.
    """

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, scaled."""
        return functional.rms_norm(tokens, tokens.shape[-1:]) * self.size


class SingleStream(Network):
    """A `Network` without a motion stream: `motion_mlp`, `motion_dropout` and `shared_layers` mean nothing here."""

    def _make_streams(self) -> None:
        width = self.backbone.stream.config.width
        size = float(self.backbone.embedding.detach().float().square().mean().sqrt())
        self.enter = nn.Sequential(nn.Linear(self.config.motion_width, width, bias=False), Scaled(size))
        self.leave = nn.Linear(width, self.config.motion_width, bias=False)
        stream = SingleStreamTransformer(self.backbone.stream, self.enter, self.leave)
        self._transformer = (cast(BimodalTransformer, stream),)


def _join(parts: list[Tokens]) -> Tokens:
    """One after the other along the sequence; their positions say who sees whom."""
    if len(parts) == 1:
        return parts[0]
    return Tokens(
        torch.cat([part.embeddings.to(parts[0].embeddings.dtype) for part in parts], 1),
        torch.cat([part.positions for part in parts], 1),
        torch.cat([part.mask for part in parts], 1),
    )


class CodeNetwork(Network):
    """A `Network` that writes the codes of a `MotionVQ`, patch by patch, in the motion stream.

    The length query is as in `Network`. After it come one start token and one token for each patch's codes; each of
    these is told the duration and predicts the next patch. Where `Network` has a diffusion head, this has a `CodeHead`.

    Args:
        config: sizes; those of the VAE and the number of queries follow `vq`.
        backbone: the text stream.
        vq: sizes of the quantiser.
    """

    vae: MotionVQ  # type: ignore[assignment]

    def __init__(self, config: MotionGPT3Config, backbone: TextBackbone, vq: VQConfig) -> None:
        self._vq = vq
        super().__init__(replace(config, queries=1, vae=vq.sizes), backbone)

    def _make_output(self) -> None:
        self.code_head = CodeHead(self.config.motion_width, self._vq.books, self._vq.codes)
        self.vae = MotionVQ(self._vq)

    def code_tokens(self, codes: Tensor, frames: Tensor) -> Tensor:
        """Motion tokens (B, n, motion width) of codes (B, n, books) of motions of `frames` (B,)."""
        return self.code_head.embed(codes).sum(-2) + self.length_embedding(frames)

    @torch.no_grad()
    def write(self, tokens: Sequence[Sequence[int]], frames: Tensor, temperature: float = 1.0, seed: int = 0) -> Tensor:
        """Codes (B, most patches, books) of motions, each drawn after those before it.

        Args:
            tokens: prompts from `tokens`.
            frames: (B,) of each motion.
            temperature: of the draws; 0 takes the likeliest code.
            seed: of the draws, one stream for the batch.
        """
        if temperature < 0:
            raise MotionGPT3Error(f"the temperature must be 0 or more, not {temperature}")
        cache, position = self.encode_text(tokens)
        generator = torch.Generator(position.device).manual_seed(seed)
        x, codes = self.query_tokens(frames), []
        for _ in range(int(self.vae.counts(frames).max())):
            _, hidden = self(pack_outputs(position, x.shape[1]), queries=x, cache=cache)
            position = position + x.shape[1]
            codes.append(self.code_head.draw(hidden[:, -1], temperature, generator).unsqueeze(1))
            x = self.code_tokens(codes[-1], frames)
        return torch.cat(codes, 1)


class SingleStreamCodes(SingleStream, CodeNetwork):
    """A `CodeNetwork` in the language model's own layers."""


Streams = Literal["dual", "single"]


def load_autoencoder(folder: Path) -> MotionVAE | MotionVQ:
    """The motion VAE or VQ-VAE of a folder, frozen; MotionGPT3Error if it holds neither."""
    config = read_config(folder)
    if "vq" not in config:
        return load_vae(folder)
    sizes = parse_config(VQConfig, config["vq"])
    with torch.device("meta"):  # sizes that the file does not hold cost nothing
        model = MotionVQ(sizes)
    load_weights(model, folder, assign=True)
    return model.float().requires_grad_(False).eval()


def build_network(
    config: MotionGPT3Config, autoencoder: MotionVAE | MotionVQ, streams: Streams, layers: int, dropout: float
) -> Network:
    """A network in which everything but the autoencoder trains, in float32.

    Args:
        config: sizes; the VAE's are those of `autoencoder`.
        autoencoder: a VAE for a diffusion head, a VQ-VAE for codes.
        streams: "dual" adds a motion stream to the language model, "single" does not.
        layers: the language model's first so many layers are used, with its own final norm.
        dropout: everywhere in the network, so that no part has more of it than another.
    """
    backbone = first_layers(load_backbone(config.backbone, dtype=torch.float32), layers)
    network: Network
    if isinstance(autoencoder, MotionVQ):
        kind = CodeNetwork if streams == "dual" else SingleStreamCodes
        network = kind(config, backbone, autoencoder.vq)
    else:
        sizes = replace(config, vae=autoencoder.config)
        network = Network(sizes, backbone) if streams == "dual" else SingleStream(sizes, backbone)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    network.requires_grad_(True)
    network.vae = autoencoder  # type: ignore[assignment]
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
