"""A MotionGPT3 with the official interface: K equal holders, no length head, no padding.

What a converted checkpoint computes is the official arithmetic (OpenMotionLab/MotionGPT3, commit cf5bab7) without the
work that cannot matter: each stream holds only its own tokens, nothing is padded to 192 tokens, and what follows the
holders is not read. A profile says how it is asked and sampled: `official` as the official evaluation does, `default`
with the prompts of its training and a fast sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.official import Profile, Task, question
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.holders import OUTPUT, Holders
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.motiongpt3 import Job, MotionGPT3
from motiongpt3.models.official_sequence import OfficialRows, token_ids
from motiongpt3.models.reading import distributions
from motiongpt3.models.stream import Tokens
from motiongpt3.models.writing import Decoding
from motiongpt3.motion.motion import Motion

STEPS: dict[Profile, int] = {"default": 20, "official": 100}
"""Sampling steps of a profile, unless one asks for others."""
LENGTHS = (80, 140, 4)
"""Frames that a motion without a given duration has: from, to, in steps of. The official demo draws so."""
CAPTION_TOKENS = 40
"""Longest caption."""
REPETITION_PENALTY = 1.1
"""Of tokens already written, in greedy decoding."""


def with_profile(config: MotionGPT3Config, profile: Profile) -> MotionGPT3Config:
    """A converted model's configuration under a profile; MotionGPT3Error for a model of ours, which has none."""
    if config.interface != "holders":
        raise MotionGPT3Error("only a converted official checkpoint has profiles; leave the profile out")
    if profile not in STEPS:
        raise MotionGPT3Error(f"the profile is default or official, not {profile!r}")
    return replace(config, profile=profile, steps=STEPS[profile])


class OfficialMotionGPT3(MotionGPT3):
    """The official model; `MotionGPT3.from_pretrained` returns it for a folder of `motiongpt3 convert official`."""

    interface = "holders"

    def _make_interface(self) -> None:
        config = self.config
        if config.vae.latent_tokens != 1:
            raise MotionGPT3Error("the official interface is for a VAE with one latent token")
        self.holders = Holders(config.queries, config.vae.latent_channels, config.motion_width)

    @property
    def transformer(self) -> BimodalTransformer:
        """The two streams as one transformer; where they are apart, the other's tokens count as bias."""
        return BimodalTransformer(self.backbone.stream, self.motion, self.config.shared_layers, isolated="bias")

    def rows(self, task: Task, captions: Sequence[str]) -> OfficialRows:
        """What the model continues, for each caption; tasks without a caption take an empty one."""
        texts = [question(task, caption, self.config.queries, self.config.profile) for caption in captions]
        ids = [token_ids(self.backbone, text) for text in texts]
        if task != "m2t":  # causal: what follows the holders changes nothing
            ids = [row[:-1] for row in ids]
        return OfficialRows.of(self.backbone, ids)

    def think_ahead(self, rows: OfficialRows, given: Sequence[Tensor] = ()) -> Tensor:
        """Hidden states (R, K, motion width) of the holders that the R rows with an asked motion have."""
        _, hidden = self.transformer(*rows.tokens(self.backbone, self.holders, given))
        assert hidden is not None
        asked = rows.ids == rows.motion_from + OUTPUT
        columns, _ = rows.columns(motion=True)
        return hidden[asked.gather(1, columns)].view(-1, self.config.queries, hidden.shape[-1])

    def draw(self, hidden: Tensor, generators: list[torch.Generator], guidance: float, steps: int) -> Tensor:
        """Normalised latents (B, 1, D) from `think_ahead`, each row with the noise of its generator."""
        shape = (1, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(hidden.device)
        if not self.config.head.condition_dropping:  # trained without guidance
            guidance = 1.0
        if self.config.profile == "official":
            return self.head.sample(hidden, noise, steps, guidance, "ddpm", generators)
        return self.head.sample(hidden, noise, steps, guidance)

    def joints(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Normalised latents (B, 1, D) and lengths (B,) -> joints (B, max length, J, 3); bones are ours by default."""
        if self.config.profile == "official":
            return self.vae.decode_joints(latents, lengths)
        return super().joints(latents, lengths)

    def _draw(self, jobs: list[Job], guidance: float, steps: int) -> list[np.ndarray]:
        texts = list(dict.fromkeys(job.caption for job in jobs))
        hidden = self.think_ahead(self.rows("t2m", texts))
        hidden = hidden[[texts.index(job.caption) for job in jobs]]
        generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
        pairs = zip(jobs, generators, strict=True)
        lengths = [self._frames(g) if job.frames is None else job.frames for job, g in pairs]
        latents = self.draw(hidden, generators, guidance, steps)
        joints = self.joints(latents, torch.tensor(lengths, device=hidden.device)).cpu().numpy()
        return [clip[:length] for clip, length in zip(joints, lengths, strict=True)]

    def _frames(self, generator: torch.Generator) -> int:
        """A duration, for there is no length head: drawn from the seed as the official demo draws it."""
        first, last, step = LENGTHS
        number = int(torch.randint((last - first) // step + 1, (1,), generator=generator))
        return min(first + number * step, self.config.vae.max_frames)

    @torch.inference_mode()
    def read_motions(self, motions: Sequence[Motion], seed: int = 0) -> Tensor:
        """Normalised latents (B, 1, D) of motions.

        The official code draws from the VAE's distribution, with `seed` here; the default profile takes its mean.

        Raises:
            MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
        """
        mean, log_variance, _ = distributions(self.vae, motions, self.config.fps)
        if self.config.profile == "official":
            noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed)).to(mean.device)
            mean = mean + torch.exp(0.5 * log_variance) * noise
        return self.vae.normalise_latents(mean)

    @torch.inference_mode()
    def write(self, rows: OfficialRows, given: Sequence[Tensor], most: int = CAPTION_TOKENS) -> list[list[int]]:
        """Words after `rows`, greedily: token ids of each row, the end of the text left out.

        As the official evaluation: no motion is opened or closed, and the scores of tokens written before are divided
        by the repetition penalty (Keskar et al. 2019; multiplied where they are negative).
        """
        backbone, cache = self.backbone, KVCache()
        text, motion = rows.tokens(backbone, self.holders, given)
        states, _ = self.transformer(text, motion, cache)
        last = (text.mask * torch.arange(1, text.mask.shape[1] + 1, device=states.device)).argmax(1)
        state = states[torch.arange(len(states)), last]
        written = torch.zeros(len(states), 0, dtype=torch.long, device=states.device)
        open_ = torch.ones(len(states), dtype=torch.bool, device=states.device)
        for _ in range(most):
            scores = backbone.logits(state)
            before = scores.gather(1, written)
            before = torch.where(before > 0, before / REPETITION_PENALTY, before * REPETITION_PENALTY)
            scores = scores.scatter(1, written, before)
            scores[:, backbone.vocabulary :] = -torch.inf
            chosen = scores.argmax(1).where(open_, backbone.eos_id)
            written = torch.cat([written, chosen[:, None]], 1)
            open_ &= chosen != backbone.eos_id
            if not open_.any():
                break
            state = self.transformer(
                Tokens.of(backbone.embed(chosen[:, None]), start=cache.next_position()), None, cache
            )[0][:, 0]
        return [row[: row.index(backbone.eos_id)] if backbone.eos_id in row else row for row in written.tolist()]

    def describe(self, motions: Sequence[Motion], decoding: Decoding, seeds: Sequence[int]) -> list[str]:
        """Captions by the official greedy decoding, whatever `decoding` says; the first seed draws the latents."""
        latents = self.read_motions(motions, seeds[0])
        written = self.write(self.rows("m2t", [""] * len(motions)), list(latents))
        return [self.backbone.decode(ids).strip() for ids in written]
