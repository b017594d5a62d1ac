"""The network of MotionGPT3: two streams that share attention, a length head, a diffusion head and a motion VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import generation_prompt
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import DiffusionHead, time_embedding
from motiongpt3.models.lora import add_lora
from motiongpt3.models.request import DEFAULT_DRAW, DrawOptions
from motiongpt3.models.sequence import MotionTokens, PackedSequences
from motiongpt3.models.vae import MotionVAE, reparameterise
from motiongpt3.motion.features import canonicalise, joints_to_features
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D

# Motions as the transformer reads them.


class EncodedMotions(NamedTuple):
    """Normalised latents (R, N, D) and durations in frames (R,)."""

    latents: Tensor
    frames: Tensor


@torch.no_grad()
def encode_motions(
    vae: MotionVAE, motions: Sequence[Motion], fps: float, noise: Tensor | None = None
) -> EncodedMotions:
    """The means of motions' latent distributions, normalised, or draws from these.

    Args:
        vae: encodes them.
        motions: of any bone lengths and rate, lying anywhere.
        fps: the VAE's rate.
        noise: (R, N, D) standard normal, for draws.

    Raises:
        MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
    """
    device, config = vae.feature_mean.device, vae.config
    features = [motion_features(motion, fps).to(device) for motion in motions]
    frames = torch.tensor([len(f) for f in features], dtype=torch.long, device=device)
    for length in frames.tolist():
        if not config.min_frames <= length <= config.max_frames:
            span = f"{config.min_frames / fps:g} to {config.max_frames / fps:g} seconds"
            raise MotionGPT3Error(f"the model reads motions of {span}, not of {length / fps:g}: cut or extend it")
    if not features:
        return EncodedMotions(torch.zeros(0, config.latent_tokens, config.latent_channels, device=device), frames)
    mean, log_variance = vae.encode(vae.normalise(pad_sequence(features, batch_first=True)), frames)
    latents = mean if noise is None else reparameterise(mean, log_variance, noise.to(device))
    return EncodedMotions(vae.normalise_latents(latents), frames)


def motion_features(motion: Motion, fps: float) -> Tensor:
    """(T, F) HumanML3D features of a motion brought to a rate, to the skeleton's bone lengths and to the origin."""
    there = motion.resample(fps)
    joints = torch.from_numpy(to_skeleton(there.joints, there.skeleton))
    return joints_to_features(canonicalise(joints, there.skeleton), there.skeleton, fps=fps)


def readable(motion: Any, config: MotionGPT3Config, name: str) -> Motion:
    """The motion at the model's rate.

    Raises:
        MotionGPT3Error: it is no motion, too short or of another skeleton; `name` says which one.
    """
    if not isinstance(motion, Motion):
        raise MotionGPT3Error(f"{name} must be a Motion, not {type(motion).__name__}")
    if motion.skeleton != HUMANML3D:
        raise MotionGPT3Error(f"{name} has another skeleton than the 22 joints of HumanML3D")
    there = motion.resample(config.fps)
    if len(there) < config.vae.min_frames:
        least = config.vae.min_frames / config.fps
        raise MotionGPT3Error(f"{name} has {there.seconds:.3g} s; the model reads {least:g} s or more")
    return there


class Network(nn.Module):
    """A language model and a motion stream that share attention, a length head, a diffusion head and a motion VAE.

    One text-to-motion pass: words and <start_of_motion> go through the text stream; one length query and K motion
    queries follow in the motion stream; the length query's hidden state predicts the duration, whose embedding is added
    to the K queries; their hidden states condition the diffusion head, which draws the VAE's latents.

    Args:
        config: sizes.
        backbone: the text stream with its tokenizer and embeddings.
    """

    interface: Literal["queries", "holders"] = "queries"

    def __init__(self, config: MotionGPT3Config, backbone: TextBackbone) -> None:
        super().__init__()
        head = replace(
            config.head,
            queries=config.queries,
            hidden=config.motion_width,
            latent_tokens=config.vae.latent_tokens,
            latent_channels=config.vae.latent_channels,
        )
        self.config = config = replace(config, head=head, interface=self.interface)
        self.backbone = backbone
        if config.text_rank is not None:
            add_lora(backbone.stream, config.text_rank)
        self._make_streams()
        self._make_interface()
        self._make_output()

    def _make_streams(self) -> None:
        """The motion stream beside the language model's own."""
        config, text = self.config, self.backbone.stream
        self.motion = Stream(text.config.for_motion(config.motion_width, config.motion_mlp, config.motion_dropout))
        BimodalTransformer(text, self.motion, config.shared_layers)  # refuses what does not fit together

    def _make_interface(self) -> None:
        """The motion stream's own inputs, and the length head."""
        config = self.config
        self.queries = nn.Parameter(torch.randn(config.queries + 1, config.motion_width) * 0.02)
        self.embed_length = nn.Sequential(
            nn.Linear(256, config.motion_width), nn.SiLU(), nn.Linear(config.motion_width, config.motion_width)
        )
        if config.stage > 1:
            latent = config.vae.latent_tokens * config.vae.latent_channels
            self.understand = nn.Sequential(
                nn.Linear(latent, config.read_width),
                nn.SiLU(),
                nn.Linear(config.read_width, config.reads * config.motion_width),
            )
            self.shown = nn.Parameter(torch.randn(config.reads, config.motion_width) * 0.02)
        self.predict_length = nn.Linear(config.motion_width, -(-config.vae.max_frames // config.length_unit))

    def _make_output(self) -> None:
        """What makes motion of hidden states."""
        self.head = DiffusionHead(self.config.head)
        self.vae = MotionVAE(self.config.vae)

    @property
    def transformer(self) -> BimodalTransformer:
        """The two streams as one transformer; it owns no parameters of its own."""
        return BimodalTransformer(self.backbone.stream, self.motion, self.config.shared_layers)

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.config.max_seconds

    @property
    def tasks(self) -> tuple[str, ...]:
        """The methods that the model was trained for; to describe motions takes stage 2."""
        continuing = ("generate", "predict", "inbetween", "compose")
        return continuing if self.config.stage == 1 else (*continuing, "caption", "chat")

    @property
    def motion_tokens(self) -> MotionTokens:
        """How motions are laid out among words."""
        special = self.backbone.start_of_motion, self.backbone.end_of_motion
        return MotionTokens(*special, shown=self.config.reads, drawn=len(self.queries))

    def forward(
        self, layout: PackedSequences, shown: EncodedMotions, asked: Tensor | None = None, cache: KVCache | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Run sequences of words and motions.

        Args:
            layout: where every token stands.
            shown: the motions that are read.
            asked: (R,) frames of the motions that are drawn; None: there are none.
            cache: what stands before; it is extended.

        Returns:
            hidden states of the text tokens (B, T, text width), None without any, and of the queries of the drawn
            motions (R, K + 1, motion width), the length query first.
        """
        tokens = [self.motion_inputs(shown).flatten(0, 1)] if len(shown.frames) else []
        if asked is not None:
            tokens.append(self.query_tokens(asked).flatten(0, 1))
        text = motion = None
        if layout.ids.shape[1]:
            text = Tokens(self.backbone.embed(layout.ids), layout.positions, layout.mask)
        if layout.slots.shape[1]:
            motion = Tokens(torch.cat(tokens)[layout.slots], layout.slot_positions, layout.slot_mask)
        words, thoughts = self.transformer(text, motion, cache)
        if thoughts is None:
            thoughts = self.queries.new_zeros(0, 1, self.config.motion_width)
        return words, thoughts.flatten(0, 1)[layout.drawn]

    def motion_inputs(self, motions: EncodedMotions) -> Tensor:
        """Motion tokens of motions that are read, (R, reads, motion width).

        Every token holds the whole latent and the duration: tokens are causal, and one that held a part would leave the
        rest to those after it.
        """
        if self.config.stage == 1:
            raise MotionGPT3Error("this model was trained for text to motion alone: it cannot read motions")
        latents = self.understand(motions.latents.flatten(1)).unflatten(1, self.shown.shape)
        return latents + self.length_embedding(motions.frames) + self.shown

    def query_tokens(self, frames: Tensor) -> Tensor:
        """Motion tokens of motions that are drawn: the length query, then K queries, (R, K + 1, motion width).

        `frames` (R,) is the duration the K queries are told; the length query does not know it.
        """
        told = self.length_embedding(frames).expand(-1, len(self.queries) - 1, -1)
        return self.queries + torch.cat([torch.zeros_like(told[:, :1]), told], 1)

    def tokens(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned captions, each wrapped as a prompt and ended by <start_of_motion>."""
        ids, mask = self.backbone.tokenize([generation_prompt(text, self.config.prompt_style) for text in captions])
        start = self.backbone.start_of_motion
        return [[*row[: int(used)], start] for row, used in zip(ids.tolist(), mask.sum(1), strict=True)]

    def encode_text(self, tokens: Sequence[Sequence[int]]) -> tuple[KVCache, Tensor]:
        """Run the text stream over prompts from `tokens`: what motion queries will see, and (B,) where they start."""
        words, lengths = self.text_tokens(tokens)
        cache = KVCache()
        self.transformer(words, None, cache)
        return cache, lengths

    def text_tokens(self, tokens: Sequence[Sequence[int]]) -> tuple[Tokens, Tensor]:
        """Prompts from `tokens` as the text stream takes them, and their (B,) lengths."""
        device = self.backbone.embedding.device
        lengths = torch.tensor([len(row) for row in tokens])
        ids = torch.zeros(len(tokens), int(lengths.max()), dtype=torch.long)
        for row, words in zip(ids, tokens, strict=True):
            row[: len(words)] = torch.tensor(words)
        lengths = lengths.to(device)
        mask = torch.arange(ids.shape[1], device=device) < lengths.unsqueeze(1)
        return Tokens.of(self.backbone.embed(ids.to(device)), mask), lengths

    def run_queries(self, cache: KVCache, start: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the motion queries after a text.

        Args:
            cache: from `read`.
            start: (B,) position of the first query.
            frames: (B,) duration in frames; None lets the length head decide.

        Returns:
            length logits (B, classes) and the hidden states of the K queries (B, K, motion width).
        """
        batch = len(start)
        transformer = self.transformer
        if frames is None:
            queries = self.queries.expand(batch, -1, -1)
            _, hidden = transformer(None, Tokens.of(queries[:, :1], start=start), cache)
            logits = self.predict_length(hidden[:, 0])
            later = queries[:, 1:] + self.length_embedding(self.predicted_frames(logits))
            _, hidden = transformer(None, Tokens.of(later, start=start + 1), cache)
            return logits, hidden
        _, hidden = transformer(None, Tokens.of(self.query_tokens(frames), start=start), cache)
        return self.predict_length(hidden[:, 0]), hidden[:, 1:]

    def length_embedding(self, frames: Tensor) -> Tensor:
        """(B,) frames -> (B, 1, motion width)."""
        return self.embed_length(time_embedding(frames * 4.0).to(self.queries.dtype)).unsqueeze(1)

    def predicted_frames(self, logits: Tensor) -> Tensor:
        """Length logits (B, classes) -> (B,) frames."""
        return ((logits.argmax(-1) + 1) * self.config.length_unit).clamp(max=self.config.vae.max_frames)

    def length_classes(self, frames: Tensor) -> Tensor:
        """(B,) frames -> (B,) classes of the length head: what `predicted_frames` undoes."""
        classes = torch.div(frames - 1, self.config.length_unit, rounding_mode="floor")
        return classes.clamp(max=self.predict_length.out_features - 1)

    def draw_latents(self, hidden: Tensor, seeds: Sequence[int], draw: DrawOptions = DEFAULT_DRAW) -> Tensor:
        """Normalised latents (B, N, D) from the hidden states of K queries (B, K, motion width), a seed for each."""
        shape = (self.config.vae.latent_tokens, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        steps = self.config.steps if draw.steps is None else draw.steps
        guidance = self.config.guidance if draw.guidance is None else draw.guidance
        return self.head.sample(hidden, noise.to(hidden.device), steps, guidance)

    def joints(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Normalised latents (B, N, D) and lengths (B,) -> joints (B, longest, J, 3) with the skeleton's bones."""
        return set_bone_lengths(self.vae.decode_joints(latents, lengths))
