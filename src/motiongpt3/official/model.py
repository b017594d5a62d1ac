"""A MotionGPT3 with the official interface: K equal holders, no length head, no padding.

What a converted checkpoint computes is the official arithmetic (OpenMotionLab/MotionGPT3, commit cf5bab7) without the
work that cannot matter: each stream holds only its own tokens, nothing is padded to 192 tokens, and what follows the
holders is not read. A profile says how it is asked and sampled: `official` as the official evaluation does, `default`
with the prompts of its training and a fast sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.bimodal import KVCache
from motiongpt3.models.chat import Chat, Reply, read_messages
from motiongpt3.models.config import MotionGPT3Config, Profile
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, sentence
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.network import encode_motions
from motiongpt3.models.request import (
    DEFAULT_DRAW,
    DrawKeywords,
    DrawOptions,
    MotionRequest,
    check_draw,
    check_seed,
)
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import align, heading
from motiongpt3.official.holders import (
    OUTPUT_KIND,
    Holders,
    OfficialRows,
    OfficialTask,
    asked_motion,
    given_motion,
    official_prompt,
    token_ids,
    without_names,
)

STEPS: dict[Profile, int] = {"default": 20, "official": 100}
"""Sampling steps of a profile, unless one asks for others."""
FREE_FRAMES = range(80, 141, 4)
"""Frames that a motion without a given duration may have: the official demo draws one of these."""
DECODING = GenerationConfig(max_tokens=40, repetition_penalty=1.1)
"""How words are written in the official evaluation."""


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
    isolated = "bias"

    def _make_interface(self) -> None:
        config = self.config
        if config.vae.latent_tokens != 1:
            raise MotionGPT3Error("the official interface is for a VAE with one latent token")
        self.holders = Holders(config.queries, config.vae.latent_channels, config.motion_width)

    def rows(self, task: OfficialTask, captions: Sequence[str]) -> OfficialRows:
        """What the model continues, for each caption; tasks without a caption take an empty one."""
        words = [without_names(caption) for caption in captions]
        texts = [official_prompt(task, caption, self.config.queries, self.config.profile) for caption in words]
        ids = [token_ids(self.backbone, text) for text in texts]
        if task != "m2t":  # causal: what follows the holders changes nothing
            ids = [row[:-1] for row in ids]
        return OfficialRows.of(self.backbone, ids)

    def run_holders(self, rows: OfficialRows, given: Sequence[Tensor] = ()) -> Tensor:
        """Hidden states (R, K, motion width) of the holders that the R rows with an asked motion have."""
        _, hidden = self.transformer(*rows.tokens(self.backbone, self.holders, given))
        assert hidden is not None
        asked = rows.ids == rows.motion_from + OUTPUT_KIND
        columns, _ = rows.columns(motion=True)
        return hidden[asked.gather(1, columns)].view(-1, self.config.queries, hidden.shape[-1])

    def draw_latents(self, hidden: Tensor, seeds: Sequence[int], draw: DrawOptions = DEFAULT_DRAW) -> Tensor:
        """Normalised latents (B, 1, D) from `run_holders`, each row with the noise of its seed."""
        if not self.config.head.condition_dropping:  # trained without guidance
            draw = replace(draw, guidance=1.0)
        if self.config.profile == "default":
            return super().draw_latents(hidden, seeds, draw)
        steps = self.config.steps if draw.steps is None else draw.steps
        guidance = self.config.guidance if draw.guidance is None else draw.guidance
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (1, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(hidden.device)
        return self.head.sample(hidden, noise, steps, guidance, "ddpm", generators)

    def joints(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """As `Network.joints`; bones have their own lengths in the official profile."""
        return self.vae.decode_joints(latents, lengths) if self._official else super().joints(latents, lengths)

    @property
    def _official(self) -> bool:
        return self.config.profile == "official"

    @property
    def least_frames(self) -> int:
        return 1 if self._official else super().least_frames

    @torch.inference_mode()
    def encode_prompts(self, requests: Sequence[MotionRequest]) -> tuple[Tensor, list[int]]:
        """As `MotionGPT3.encode_prompts`; the official profile reads a prompt as it was written."""
        texts = [r.prompt.strip() if self._official else r.caption for r in requests]
        wanted = list(dict.fromkeys(texts))
        hidden = self.run_holders(self.rows("t2m", wanted))[[wanted.index(text) for text in texts]]
        return hidden, [self.free_frames(r.seed) if r.frames is None else r.frames for r in requests]

    def free_frames(self, seed: int) -> int:
        """A duration in frames where none is given, for there is no length head: drawn as the official demo does."""
        number = torch.randint(len(FREE_FRAMES), (1,), generator=torch.Generator().manual_seed(seed))
        return min(FREE_FRAMES[int(number)], self.config.vae.max_frames)

    def decide_frames(self, captions: Sequence[str]) -> list[int]:
        """A duration for each caption, whatever it says: that of the seeds 0, 1 and so on."""
        return [self.free_frames(number) for number in range(len(captions))]

    @torch.inference_mode()
    def read_motions(self, motions: Sequence[Motion], seed: int = 0) -> Tensor:
        """Normalised latents (B, 1, D) of motions.

        The official code draws from the VAE's distribution, with `seed` here; the default profile takes its mean.

        Raises:
            MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
        """
        shape = (len(motions), 1, self.config.vae.latent_channels)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) if self._official else None
        return encode_motions(self.vae, motions, self.config.fps, noise).latents

    def read_rows(self, rows: OfficialRows, given: Sequence[Tensor]) -> tuple[Tensor, KVCache]:
        """Rows that end in words: logits (B, vocabulary + 2) of what follows, and the cache."""
        cache = KVCache()
        text, motion = rows.tokens(self.backbone, self.holders, given)
        states, _ = self.transformer(text, motion, cache)
        assert states is not None
        return self.backbone.logits_after(states, text.mask), cache

    @torch.inference_mode()
    def write(
        self,
        rows: OfficialRows,
        given: Sequence[Tensor],
        decoding: GenerationConfig = DECODING,
        seeds: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Words after `rows`, which end in words: ids of each row. Motions are neither opened nor closed."""
        logits, cache = self.read_rows(rows, given)
        special = (self.backbone.start_of_motion, self.backbone.end_of_motion)
        decoder, decoding = TextDecoder(self.backbone, self.transformer), replace(decoding, forbidden=special)
        answers = decoder.generate(logits, cache, cache.next_position(), decoding, [self.backbone.eos_id], seeds)
        return [ids for ids, _ in answers]

    def describe(self, motions: Sequence[Motion], decoding: GenerationConfig, seeds: Sequence[int]) -> list[str]:
        """A caption of each motion; with the official repetition penalty and length unless others are asked for."""
        penalty = decoding.repetition_penalty if decoding.repetition_penalty != 1.0 else DECODING.repetition_penalty
        most = min(decoding.max_tokens, DECODING.max_tokens)
        asked = replace(decoding, max_tokens=most, repetition_penalty=penalty)
        latents = self.read_motions(motions, seeds[0] if seeds else 0)
        written = self.write(self.rows("m2t", [""] * len(motions)), list(latents), asked, seeds)
        texts = [self.backbone.decode(ids).strip() for ids in written]
        return texts if self._official else [sentence(text) for text in texts]

    @torch.inference_mode()
    def draw_window(
        self,
        before: Motion | None,
        after: Motion | None,
        frames: int,
        prompt: str | None,
        seed: int,
        draw: DrawOptions = DEFAULT_DRAW,
    ) -> Motion:
        """As `MotionGPT3.draw_window`.

        What is predicted is the part after `before`, a clip of its own; what is filled in is the whole. No official
        task has both words and motions, so with words the given motions are not read.
        """
        given = [motion for motion in (before, after) if motion is not None]
        if prompt is not None or not given:
            hidden = self.run_holders(self.rows("t2m", [prompt or "a person moves."]))
        else:
            latents = self.read_motions(given, seed)[:, 0]
            hidden = self.run_holders(self.rows("predict" if len(given) == 1 else "inbetween", [""]), [latents])
        if before is None or after is not None:
            return Motion(self.draw_joints(hidden, [frames], [seed], draw)[0], self.config.fps, prompt, f"seed {seed}")
        joints = self.draw_joints(hidden, [frames - len(before)], [seed], draw)[0]
        last = before.joints[-1:]
        joints = align(joints, (float(last[0, 0, 0]), float(last[0, 0, 2])), float(heading(last)[0]))
        return Motion(np.concatenate([before.joints, joints]), self.config.fps, prompt, f"seed {seed}")

    @torch.inference_mode()
    def chat(self, messages: Chat, decoding: GenerationConfig | None = None, **draw: Unpack[DrawKeywords]) -> Reply:
        """As `MotionGPT3.chat`: the answer to the last message alone, with at most one motion, which ends it.

        The official code never lets the model decide: its caller appends the holders of a motion or does not. The model
        was trained on strings that hold both, so it can; it knows single questions, not conversations.
        """
        turns, motions = read_messages(messages, self.config)
        options = DrawOptions(**draw)
        seed, options = check_seed(options.seed), check_draw(self.config, options)
        backbone, count = self.backbone, self.config.queries
        asked = turns[-1].content
        words = [without_names(piece) if isinstance(piece, str) else given_motion(count) for piece in asked]
        ids = token_ids(backbone, "".join(words) + " \n")
        attached = motions[len(motions) - sum(not isinstance(piece, str) for piece in asked) :]
        given = [self.read_motions(attached, seed)[:, 0]] if attached else []

        logits, cache = self.read_rows(OfficialRows.of(backbone, [ids]), given)
        start = backbone.start_of_motion
        decoding = decoding or DECODING
        decoding = replace(decoding, beams=1, forbidden=(*decoding.forbidden, backbone.end_of_motion))
        decoder, ends = TextDecoder(backbone, self.transformer), [backbone.eos_id, start]
        [(said, ended)] = decoder.generate(logits, cache, cache.next_position(), decoding, ends, [seed])
        text = sentence(backbone.decode(said))
        if ended != start:
            return Reply(text)
        row = [*ids, *said, *token_ids(backbone, asked_motion(count))[:-1]]
        hidden = self.run_holders(OfficialRows.of(backbone, [row]), given)
        joints = self.draw_joints(hidden, [self.free_frames(seed)], [seed], options)[0]
        return Reply(text, Motion(joints, self.config.fps, name=f"seed {seed}"))
