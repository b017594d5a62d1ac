"""Text to motion by quantised tokens: the same streams, which predict patch after patch instead of one latent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.baselines.code_head import CodeHead
from motiongpt3.models.baselines.single_stream import SingleStream
from motiongpt3.models.baselines.vq import MotionVQ, VQConfig
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.network import Network
from motiongpt3.models.stream import Tokens


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
    def draw_codes(
        self, cache: KVCache, start: Tensor, frames: Tensor, temperature: float = 1.0, seed: int = 0
    ) -> Tensor:
        """Codes (B, most patches, books) of motions of `frames` (B,), each drawn after those before it.

        Args:
            cache: from `read`.
            start: (B,) position of the first query.
            frames: (B,).
            temperature: of the draws; 0 takes the likeliest code.
            seed: of the draws, one stream for the batch.
        """
        if temperature < 0:
            raise MotionGPT3Error(f"the temperature must be 0 or more, not {temperature}")
        generator = torch.Generator(start.device).manual_seed(seed)
        transformer, x = self.transformer, self.query_tokens(frames)
        position, codes = start, []
        for _ in range(int(self.vae.counts(frames).max())):
            _, hidden = transformer(None, Tokens.of(x, start=position), cache)
            assert hidden is not None
            position = position + x.shape[1]
            codes.append(self.code_head.draw(hidden[:, -1], temperature, generator).unsqueeze(1))
            x = self.code_tokens(codes[-1], frames)
        return torch.cat(codes, 1)

    def write(self, tokens: Sequence[Sequence[int]], frames: Tensor, temperature: float = 1.0, seed: int = 0) -> Tensor:
        """Codes (B, most patches, books) for prompts from `tokens`."""
        cache, start = self.read(tokens)
        return self.draw_codes(cache, start, frames, temperature, seed)


class SingleStreamCodes(SingleStream, CodeNetwork):
    """A `CodeNetwork` in the language model's own layers."""
