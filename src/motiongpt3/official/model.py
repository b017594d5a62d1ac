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
from motiongpt3.models.bimodal import BimodalTransformer, KVCache
from motiongpt3.models.captioning import sentence
from motiongpt3.models.chat import Chat, Reply, read_messages
from motiongpt3.models.config import MotionGPT3Config, Profile
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, logits_after
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
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import align, heading
from motiongpt3.official.sequence import (
    OUTPUT_KIND,
    Holders,
    OfficialRows,
    OfficialTask,
    asked_motion,
    given_motion,
    question,
    token_ids,
    without_names,
)

# A converted model answers freely: it writes until it opens a motion or ends the text.
#
# The official code never lets the model decide: its caller appends the holders of a motion or does not. The model was
# trained on strings that hold both, so it can. It knows single questions, not conversations.


@torch.inference_mode()
def answer_last_message(
    model: OfficialMotionGPT3,
    messages: Chat,
    decoding: GenerationConfig | None,
    draw: DrawOptions,
) -> Reply:
    """The answer to the last message, with at most one motion, which ends it; arguments as in `MotionGPT3.chat`."""
    turns, motions = read_messages(messages, model.config)
    seed, draw = check_seed(draw.seed), check_draw(model.config, draw)
    backbone, count = model.backbone, model.config.queries
    asked = turns[-1].content
    words = [without_names(piece) if isinstance(piece, str) else given_motion(count) for piece in asked]
    ids = token_ids(backbone, "".join(words) + " \n")
    attached = motions[len(motions) - sum(not isinstance(piece, str) for piece in asked) :]
    given = [model.read_motions(attached, seed)[:, 0]] if attached else []

    logits, cache = model.read_rows(OfficialRows.of(backbone, [ids]), given)
    start = backbone.start_of_motion
    decoding = decoding or GenerationConfig(max_tokens=40, repetition_penalty=1.1)
    decoding = replace(decoding, forbidden=(*decoding.forbidden, backbone.end_of_motion))
    writer = TextDecoder(backbone, model.transformer)
    said, ended = writer.speak(logits, cache, cache.next_position(), decoding, [backbone.eos_id, start], seed)
    text = sentence(backbone.decode(said))
    if ended != start:
        return Reply(text)
    row = [*ids, *said, *token_ids(backbone, asked_motion(count))[:-1]]
    hidden = model.think_ahead(OfficialRows.of(backbone, [row]), given)
    latents = model.draw_latents(hidden, [seed], draw)
    joints = model.decode(latents, [model.length(seed)])[0]
    return Reply(text, Motion(joints, model.config.fps, name=f"seed {seed}"))


STEPS: dict[Profile, int] = {"default": 20, "official": 100}
"""Sampling steps of a profile, unless one asks for others."""
FREE_FRAMES = (80, 140, 4)
"""Frames that a motion without a given duration has: from, to, in steps of. The official demo draws so."""
DECODING = GenerationConfig(max_tokens=40, repetition_penalty=1.1)
"""How captions are written in the official evaluation."""


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

    def rows(self, task: OfficialTask, captions: Sequence[str]) -> OfficialRows:
        """What the model continues, for each caption; tasks without a caption take an empty one."""
        words = [without_names(caption) for caption in captions]
        texts = [question(task, caption, self.config.queries, self.config.profile) for caption in words]
        ids = [token_ids(self.backbone, text) for text in texts]
        if task != "m2t":  # causal: what follows the holders changes nothing
            ids = [row[:-1] for row in ids]
        return OfficialRows.of(self.backbone, ids)

    def think_ahead(self, rows: OfficialRows, given: Sequence[Tensor] = ()) -> Tensor:
        """Hidden states (R, K, motion width) of the holders that the R rows with an asked motion have."""
        _, hidden = self.transformer(*rows.tokens(self.backbone, self.holders, given))
        assert hidden is not None
        asked = rows.ids == rows.motion_from + OUTPUT_KIND
        columns, _ = rows.columns(motion=True)
        return hidden[asked.gather(1, columns)].view(-1, self.config.queries, hidden.shape[-1])

    def draw_latents(self, hidden: Tensor, seeds: Sequence[int], draw: DrawOptions = DEFAULT_DRAW) -> Tensor:
        """Normalised latents (B, 1, D) from `think_ahead`, each row with the noise of its seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (1, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(hidden.device)
        steps = self.config.steps if draw.steps is None else draw.steps
        guidance = self.config.guidance if draw.guidance is None else draw.guidance
        if not self.config.head.condition_dropping:  # trained without guidance
            guidance = 1.0
        if self.config.profile == "official":
            return self.head.sample(hidden, noise, steps, guidance, "ddpm", generators)
        return self.head.sample(hidden, noise, steps, guidance)

    def decode(self, latents: Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
        """Joints (T, J, 3) of normalised latents (B, 1, D).

        Bones have their own lengths in the official profile, and the skeleton's otherwise.
        """
        official = self.config.profile == "official"
        least = 1 if official else min(self.config.vae.min_frames, self.config.vae.max_frames)
        frames = torch.tensor([max(n, least) for n in lengths], device=latents.device)
        joints = self.vae.decode_joints(latents, frames)
        joints = joints if official else set_bone_lengths(joints)
        return [clip[:n] for clip, n in zip(joints.cpu().numpy(), lengths, strict=True)]

    @torch.inference_mode()
    def encode_prompts(self, requests: Sequence[MotionRequest]) -> tuple[Tensor, list[int]]:
        texts = [r.prompt.strip() if self.config.profile == "official" else r.caption for r in requests]
        wanted = list(dict.fromkeys(texts))
        hidden = self.think_ahead(self.rows("t2m", wanted))[[wanted.index(text) for text in texts]]
        return hidden, [self.length(r.seed) if r.frames is None else r.frames for r in requests]

    @torch.inference_mode()
    def draw_joints(
        self, hidden: Tensor, frames: Sequence[int], seeds: Sequence[int], draw: DrawOptions
    ) -> list[np.ndarray]:
        return self.decode(self.draw_latents(hidden, seeds, draw), frames)

    def length(self, seed: int) -> int:
        """A duration in frames where none is given, for there is no length head: drawn as the official demo does."""
        first, last, step = FREE_FRAMES
        number = torch.randint((last - first) // step + 1, (1,), generator=torch.Generator().manual_seed(seed))
        return min(first + int(number) * step, self.config.vae.max_frames)

    def decide_frames(self, captions: Sequence[str]) -> list[int]:
        """A duration for each caption, whatever it says: that of the seeds 0, 1 and so on."""
        return [self.length(number) for number in range(len(captions))]

    @torch.inference_mode()
    def read_motions(self, motions: Sequence[Motion], seed: int = 0) -> Tensor:
        """Normalised latents (B, 1, D) of motions.

        The official code draws from the VAE's distribution, with `seed` here; the default profile takes its mean.

        Raises:
            MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
        """
        if self.config.profile == "default":
            return encode_motions(self.vae, motions, self.config.fps).latents
        noise = torch.randn(
            (len(motions), 1, self.config.vae.latent_channels), generator=torch.Generator().manual_seed(seed)
        )
        return encode_motions(self.vae, motions, self.config.fps, noise).latents

    @torch.inference_mode()
    def write(
        self,
        rows: OfficialRows,
        given: Sequence[Tensor],
        decoding: GenerationConfig | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Words after `rows`, which end in words: ids of each row. Motions are neither opened nor closed."""
        logits, cache = self.read_rows(rows, given)
        special = (self.backbone.start_of_motion, self.backbone.end_of_motion)
        decoding = replace(decoding or DECODING, forbidden=special)
        writer = TextDecoder(self.backbone, self.transformer)
        return writer.write(logits, cache, cache.next_position(), decoding, [self.backbone.eos_id], seeds)

    def read_rows(self, rows: OfficialRows, given: Sequence[Tensor]) -> tuple[Tensor, KVCache]:
        """Rows that end in words: logits (B, vocabulary + 2) of what follows, and the cache."""
        cache = KVCache()
        text, motion = rows.tokens(self.backbone, self.holders, given)
        states, _ = self.transformer(text, motion, cache)
        assert states is not None
        return logits_after(self.backbone, states, text.mask), cache

    def describe(self, motions: Sequence[Motion], decoding: GenerationConfig, seeds: Sequence[int]) -> list[str]:
        """A caption of each motion; with the official repetition penalty and length unless others are asked for."""
        asked = replace(
            decoding,
            max_tokens=min(decoding.max_tokens, DECODING.max_tokens),
            repetition_penalty=decoding.repetition_penalty
            if decoding.repetition_penalty != 1.0
            else DECODING.repetition_penalty,
        )
        latents = self.read_motions(motions, seeds[0] if seeds else 0)
        written = self.write(self.rows("m2t", [""] * len(motions)), list(latents), asked, seeds)
        texts = [self.backbone.decode(ids).strip() for ids in written]
        return texts if self.config.profile == "official" else [sentence(text) for text in texts]

    @torch.inference_mode()
    def draw_window(
        self,
        before: Motion | None,
        after: Motion | None,
        frames: int,
        prompt: str | None,
        seed: int,
        draw: DrawOptions,
    ) -> Motion:
        """As `MotionGPT3.draw_window`.

        What is predicted is the part after `before`, a clip of its own; what is filled in is the whole. No official
        task has both words and motions, so with words the given motions are not read.
        """
        alone = before is not None and after is None
        new = frames - len(before) if before is not None and alone else frames
        given = [motion for motion in (before, after) if motion is not None]
        if prompt is not None or not given:
            hidden = self.think_ahead(self.rows("t2m", [prompt or "a person moves."]))
        else:
            latents = self.read_motions(given, seed)[:, 0]
            hidden = self.think_ahead(self.rows("predict" if len(given) == 1 else "inbetween", [""]), [latents])
        joints = self.decode(self.draw_latents(hidden, [seed], draw), [new])[0]
        if before is not None and alone:
            last = before.joints[-1:]
            joints = align(joints, (float(last[0, 0, 0]), float(last[0, 0, 2])), float(heading(last)[0]))
            joints = np.concatenate([before.joints, joints])
        return Motion(joints, self.config.fps, prompt, f"seed {seed}")

    def chat(
        self,
        messages: Chat,
        decoding: GenerationConfig | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Reply:
        """As `MotionGPT3.chat`; of the conversation only the last message is read: see `answer_last_message`."""
        return answer_last_message(self, messages, decoding, DrawOptions(**draw))
