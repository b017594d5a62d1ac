"""The network of MotionGPT3: what goes in and what comes out.

Two streams that share attention (`bimodal`), a length head, a diffusion head (`diffusion_head`) and a motion VAE
(`vae`). Everything the model does is a pass of `Network.forward`: generation runs the prompts once (`encode_text`) and
the motion queries behind them (`run_queries`), captioning and chat run prompts that hold motions (`prefill`) and write
words behind them, training runs whole sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Prompt, generation_prompt, turn_end
from motiongpt3.instructions.templates import Task, build
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, sentence
from motiongpt3.models.diffusion_head import DiffusionHead, time_embedding
from motiongpt3.models.lora import add_lora
from motiongpt3.models.request import DEFAULT_DRAW, DrawOptions, MotionRequest, check_motion, too_short
from motiongpt3.models.sequence import (
    InputMotion,
    MotionTokens,
    OutputMotion,
    PackedSequences,
    Piece,
    Row,
    TextPiece,
    pack,
    pack_outputs,
)
from motiongpt3.models.vae import MotionVAE, reparameterise
from motiongpt3.motion.features import canonicalise, joints_to_features
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import to_skeleton

BATCH = 32
"""Sequences that are run together: more fill memory and gain no speed on a CPU."""


class EncodedMotions(NamedTuple):
    """Motions as the transformer reads them: normalised latents (R, N, D) and durations in frames (R,)."""

    latents: Tensor
    frames: Tensor


def readable(motion: Any, config: MotionGPT3Config, name: str) -> Motion:
    """The motion at the model's rate.

    Raises:
        MotionGPT3Error: it is no motion, too short or of another skeleton; `name` says which one.
    """
    check_motion(motion, name)
    there: Motion = motion.resample(config.fps)
    if len(there) < config.vae.min_frames:
        raise too_short(config, there, name)
    return there


@torch.no_grad()
def encode_motions(
    vae: MotionVAE, motions: Sequence[Motion], fps: float, noise: Tensor | None = None
) -> EncodedMotions:
    """The means of motions' latent distributions, normalised, or draws from these.

    Args:
        vae: encodes them.
        motions: at the model's rate (see `readable`), of any bone lengths, lying anywhere.
        fps: that rate.
        noise: (R, N, D) standard normal, for draws.

    Raises:
        MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
    """
    device, config = vae.feature_mean.device, vae.config
    features = []
    for motion in motions:
        joints = torch.from_numpy(to_skeleton(motion.joints, motion.skeleton))
        joints = canonicalise(joints, motion.skeleton)
        features.append(joints_to_features(joints, motion.skeleton, fps=fps).to(device))
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
    """How motions enter and leave the motion stream, see `MotionGPT3Config`."""
    isolated: Literal["hidden", "bias"] = "hidden"
    """What a stream sees of the other where layers are not shared, see `BimodalTransformer`."""

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
        # In a tuple it is no registered module: it owns no parameters but those of the two streams.
        self._transformer = (BimodalTransformer(text, self.motion, config.shared_layers, self.isolated),)

    def _make_interface(self) -> None:
        """The motion stream's own inputs, and the length head.

        `understand` and `shown`, names that the weights' files have, make the tokens of motions that are read.
        """
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
        """The two streams as one transformer."""
        return self._transformer[0]

    @property
    def motion_tokens(self) -> MotionTokens:
        """How motions are placed among words."""
        special = self.backbone.start_of_motion, self.backbone.end_of_motion
        return MotionTokens(*special, inputs=self.config.reads, outputs=len(self.queries))

    @property
    def least_frames(self) -> int:
        """Frames of the shortest clip that is decoded; a shorter motion is the beginning of one of this length."""
        return min(self.config.vae.min_frames, self.config.vae.max_frames)

    # The pass.

    def forward(
        self,
        packed: PackedSequences,
        motions: EncodedMotions | None = None,
        queries: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Run sequences of words and motions.

        Args:
            packed: where every token stands.
            motions: the input motions; None: there are none.
            queries: (R, n, motion width) tokens of the output motions, or (R,) their durations, of which `query_tokens`
                are made; None: there are none.
            cache: what stands before; it is extended.

        Returns:
            hidden states of the text tokens (B, T, text width), None without any, and of the tokens of the output
            motions (R, n, motion width).
        """
        tokens = [self.motion_inputs(motions).flatten(0, 1)] if motions is not None and len(motions.frames) else []
        if queries is not None:
            tokens.append((self.query_tokens(queries) if queries.ndim == 1 else queries).flatten(0, 1))
        text = motion = None
        if packed.ids.shape[1]:
            text = Tokens(self.backbone.embed(packed.ids), packed.positions, packed.mask)
        if packed.slots.shape[1]:
            motion = Tokens(torch.cat(tokens)[packed.slots], packed.slot_positions, packed.slot_mask)
        words, hidden = self.transformer(text, motion, cache)
        if hidden is None:
            hidden = self.queries.new_zeros(0, 1, self.config.motion_width)
        return words, hidden.flatten(0, 1)[packed.outputs]

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

    # From words to motions.

    def tokens(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned captions, each wrapped as a prompt and ended by <start_of_motion>."""
        rows = self.backbone.tokenize([generation_prompt(text, self.config.prompt_style) for text in captions])
        return [[*row, self.backbone.start_of_motion] for row in rows]

    def encode_text(self, tokens: Sequence[Sequence[int]]) -> tuple[KVCache, Tensor]:
        """Run the text stream over prompts from `tokens`: what motion queries will see, and (B,) where they start."""
        cache = KVCache()
        packed = pack([[TextPiece(tuple(row))] for row in tokens], self.motion_tokens).to(self.backbone.special.device)
        self(packed, cache=cache)
        return cache, packed.ends

    def run_queries(self, cache: KVCache, start: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the motion queries after a text.

        Args:
            cache: from `encode_text`.
            start: (B,) position of the first query.
            frames: (B,) duration in frames; None lets the length head decide.

        Returns:
            length logits (B, classes) and the hidden states of the K queries (B, K, motion width).
        """
        if frames is not None:
            queries = self.query_tokens(frames)
            _, hidden = self(pack_outputs(start, queries.shape[1]), queries=queries, cache=cache)
            return self.predict_length(hidden[:, 0]), hidden[:, 1:]
        queries = self.queries.expand(len(start), -1, -1)
        _, hidden = self(pack_outputs(start, 1), queries=queries[:, :1], cache=cache)
        logits = self.predict_length(hidden[:, 0])
        queries = queries[:, 1:] + self.length_embedding(self.predicted_frames(logits))
        _, hidden = self(pack_outputs(start + 1, queries.shape[1]), queries=queries, cache=cache)
        return logits, hidden

    @torch.inference_mode()
    def encode_prompts(self, requests: Sequence[MotionRequest]) -> tuple[Tensor, list[int]]:
        """What words and duration alone decide of a batch of requests, which all have a duration or all have none.

        Most of the work of a motion lies here, and it is the same for every seed: a text is read once for all of them.

        Returns:
            hidden states of the queries (B, K, motion width), and the frames of each motion.
        """
        device = self.queries.device
        texts = list(dict.fromkeys((request.caption, request.frames) for request in requests))
        cache, start = self.encode_text(self.tokens([caption for caption, _ in texts]))
        wanted = [max(frames, self.least_frames) for _, frames in texts if frames is not None]
        logits, hidden = self.run_queries(cache, start, torch.tensor(wanted, device=device) if wanted else None)
        rows = torch.tensor([texts.index((request.caption, request.frames)) for request in requests], device=device)
        decided = self.predicted_frames(logits)[rows].tolist()
        return hidden[rows], [request.frames or int(n) for request, n in zip(requests, decided, strict=True)]

    @torch.inference_mode()
    def draw_joints(
        self, hidden: Tensor, frames: Sequence[int], seeds: Sequence[int], draw: DrawOptions
    ) -> list[np.ndarray]:
        """Joints (T, J, 3) of motions from `encode_prompts`, each drawn with its seed; they may not be finite."""
        lengths = torch.tensor([max(n, self.least_frames) for n in frames], device=hidden.device)
        joints = self.joints(self.draw_latents(hidden, seeds, draw), lengths).cpu().numpy()
        return [clip[:n] for clip, n in zip(joints, frames, strict=True)]

    def draw_motions(self, requests: Sequence[MotionRequest], draw: DrawOptions) -> list[Motion]:
        """A batch of motions, which all have a duration or all have none.

        Raises:
            NotFiniteError: a motion is not finite.
        """
        hidden, frames = self.encode_prompts(requests)
        drawn = self.draw_joints(hidden, frames, [request.seed for request in requests], draw)
        return [
            Motion(joints, self.config.fps, request.prompt, f"seed {request.seed}")
            for request, joints in zip(requests, drawn, strict=True)
        ]

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

    @torch.inference_mode()
    def decide_frames(self, captions: Sequence[str]) -> list[int]:
        """The frames that the length head gives each cleaned caption."""
        frames: list[int] = []
        for at in range(0, len(captions), BATCH):
            logits, _ = self.run_queries(*self.encode_text(self.tokens(captions[at : at + BATCH])), None)
            frames += self.predicted_frames(logits).tolist()
        return frames

    # From words and motions to words, or to a motion around them.

    def question(self, prompt: Prompt, first: int = 0) -> list[Piece]:
        """The pieces of a prompt's question, its motions numbered from `first`."""
        row: list[Piece] = []
        for piece in prompt.question:
            if isinstance(piece, str):
                row.append(TextPiece(tuple(self.backbone.ids(piece))))
            else:
                row.append(InputMotion(first))
                first += 1
        return row

    def prefill(self, rows: Sequence[Row], motions: EncodedMotions) -> tuple[Tensor, KVCache, Tensor]:
        """Run rows that end in words: logits (B, vocabulary + 2) of what follows, the cache, and (B,) its place."""
        cache = KVCache()
        packed = pack(rows, self.motion_tokens).to(motions.latents.device)
        words, _ = self(packed, motions, cache=cache)
        return self.backbone.logits_after(words, packed.mask), cache, packed.ends

    @property
    def stops(self) -> list[int]:
        """Tokens that end an answer in words."""
        return [*self.backbone.ids(turn_end(self.config.prompt_style))[:1], self.backbone.eos_id]

    @torch.inference_mode()
    def describe(self, motions: Sequence[Motion], decoding: GenerationConfig, seeds: Sequence[int]) -> list[str]:
        """A caption of each motion, all of a length that the model reads at once; draws follow the seeds."""
        decoder = TextDecoder(self.backbone, self.transformer)
        start = self.start_captions(encode_motions(self.vae, motions, self.config.fps))
        return self.write_captions(decoder, *start, decoding, seeds)

    def start_captions(self, motions: EncodedMotions) -> tuple[Tensor, KVCache, Tensor]:
        """Run motions and the question what happens in them; returns what `prefill` does."""
        prompt = build("motion_to_caption", self.config.prompt_style)
        return self.prefill([self.question(prompt, number) for number in range(len(motions.frames))], motions)

    def write_captions(
        self,
        decoder: TextDecoder,
        logits: Tensor,
        cache: KVCache,
        places: Tensor,
        decoding: GenerationConfig,
        seeds: Sequence[int],
    ) -> list[str]:
        """Sentences behind `start_captions`, without motions among the words."""
        special = self.backbone.start_of_motion, self.backbone.end_of_motion
        decoding = replace(decoding, forbidden=(*decoding.forbidden, *special))
        answers = decoder.generate(logits, cache, places, decoding, self.stops, seeds)
        return [sentence(self.backbone.decode(ids)) for ids, _ in answers]

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
        """A window of `frames` frames that begins roughly as `before` and ends roughly as `after`.

        It lies at the origin. One of `before` and `after` is needed, as long as the model can read; a model that
        continues only forwards is given both or the first.

        Args:
            before: what the window begins with, at the model's rate.
            after: what it ends with, at the model's rate.
            frames: of the whole window, at most the VAE's longest.
            prompt: what happens, or None.
            seed: of the drawing.
            draw: guidance and steps.

        Raises:
            MotionGPT3Error: a motion is too short or too long to be read, or the model reads no motions.
        """
        given = [motion for motion in (before, after) if motion is not None]
        task: Task = "inbetween" if len(given) == 2 else "predict"
        if prompt is not None:
            task = "inbetween_with_words" if len(given) == 2 else "predict_with_words"
        config = self.config
        asked = build(task, config.prompt_style, caption=prompt, frames=frames, fps=config.fps)
        motions = encode_motions(self.vae, given, config.fps)
        length = torch.tensor([frames], device=motions.frames.device)
        packed = pack([[*self.question(asked), OutputMotion(0)]], self.motion_tokens).to(length.device)
        _, hidden = self(packed, motions, length)
        latents = self.draw_latents(hidden[:, 1:], [seed], draw)
        return Motion(self.joints(latents, length)[0].cpu().numpy(), config.fps, prompt, f"seed {seed}")
