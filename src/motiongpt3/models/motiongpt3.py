"""MotionGPT3: words in, motion out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import generation_prompt
from motiongpt3.models import chatting, continuing, describing, windows
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.chatting import Chat, Reply
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import DiffusionHead, time_embedding
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.layout import Layout, MotionTokens
from motiongpt3.models.low_rank import add_low_rank
from motiongpt3.models.pretrained import Pretrained
from motiongpt3.models.reading import Motions
from motiongpt3.models.request import check_request
from motiongpt3.models.stream import Stream, Tokens
from motiongpt3.models.vae import MotionVAE
from motiongpt3.models.writing import Decoding
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.motion import Motion


class Job(NamedTuple):
    """A motion to draw: the user's words, the cleaned ones, duration in frames (None: the model decides) and seed."""

    prompt: str
    caption: str
    frames: int | None
    seed: int


class MotionGPT3(Pretrained):
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
            add_low_rank(backbone.stream, config.text_rank)
        stream = backbone.stream.config.for_motion(config.motion_width, config.motion_mlp, config.motion_dropout)
        self.motion = Stream(stream)
        BimodalTransformer(backbone.stream, self.motion, config.shared_layers)  # refuses what does not fit together
        self._make_interface()
        self.head = DiffusionHead(config.head)
        self.vae = MotionVAE(config.vae)

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
        self, layout: Layout, shown: Motions, asked: Tensor | None = None, cache: KVCache | None = None
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

    def motion_inputs(self, motions: Motions) -> Tensor:
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

    def read(self, tokens: Sequence[Sequence[int]]) -> tuple[KVCache, Tensor]:
        """Run the text stream over prompts from `tokens`: what motion queries will see, and (B,) where they start."""
        device = self.backbone.embedding.device
        lengths = torch.tensor([len(row) for row in tokens])
        ids = torch.zeros(len(tokens), int(lengths.max()), dtype=torch.long)
        for row, words in zip(ids, tokens, strict=True):
            row[: len(words)] = torch.tensor(words)
        lengths = lengths.to(device)
        mask = torch.arange(ids.shape[1], device=device) < lengths.unsqueeze(1)
        cache = KVCache()
        self.transformer(Tokens.of(self.backbone.embed(ids.to(device)), mask), None, cache)
        return cache, lengths

    def think(self, cache: KVCache, start: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
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

    @overload
    def generate(
        self,
        prompt: str,
        seconds: float | Sequence[float | None] | None = ...,
        samples: Literal[1] = ...,
        seed: int | Sequence[int] = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = ...,
        samples: int = ...,
        seed: int | Sequence[int] = ...,
        guidance: float | None = ...,
        steps: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> Motion | list[Motion]: ...

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str],
        seconds: float | Sequence[float | None] | None = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion | list[Motion]:
        """Motions that do what the prompts say.

        Args:
            prompt: a sentence, or several.
            seconds: duration, at most `max_seconds`; None follows the length words of a prompt ("for three seconds",
                "with 80 frames"), and lets the model decide where there are none. One for
                all prompts, or one for each.
            samples: motions per prompt. Sample k is drawn with seed + k, whatever else is drawn with it.
            seed: same seed, same machine, same motion. One for all prompts, or one for each.
            guidance: how strictly to follow the words; 1 is not at all stressed.
            steps: sampling steps of the diffusion head.
            progress: wraps the list of batches, for a progress bar.

        Returns:
            A Motion for one prompt and one sample, else a flat list, prompt by prompt.

        Raises:
            MotionGPT3Error: an empty or endless prompt, or a number out of range.
        """
        if not isinstance(prompt, str | Sequence):
            raise MotionGPT3Error(f"the prompt must be a sentence or a list of them, not {type(prompt).__name__}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        asked = check_request(self.config, prompts, seconds, samples, seed, guidance, steps)
        each = zip(prompts, asked.captions, asked.frames, asked.seeds, strict=True)
        jobs = [Job(words, text, frames, seed + k) for words, text, frames, seed in each for k in range(asked.samples)]
        groups = ([n for n, job in enumerate(jobs) if (job.frames is None) is decide] for decide in (False, True))
        batches = [group[i : i + 32] for group in groups for i in range(0, len(group), 32)]
        made: dict[int, Motion] = {}
        for batch in progress(batches):
            drawn = self._draw([jobs[n] for n in batch], asked.guidance, asked.steps)
            for n, joints in zip(batch, drawn, strict=True):
                made[n] = Motion(joints, self.config.fps, jobs[n].prompt, f"seed {jobs[n].seed}")
        motions = [made[n] for n in range(len(jobs))]
        return motions[0] if isinstance(prompt, str) and asked.samples == 1 else motions

    def _draw(self, jobs: list[Job], guidance: float, steps: int) -> list[np.ndarray]:
        """Joints (T, J, 3) of jobs with a duration, or of jobs without; a text is read once for all its samples."""
        device = self.queries.device
        texts = list(dict.fromkeys((job.caption, job.frames) for job in jobs))
        cache, start = self.read(self.tokens([caption for caption, _ in texts]))
        least = min(self.config.vae.min_frames, self.config.vae.max_frames)
        wanted = [max(frames, least) for _, frames in texts if frames is not None]
        asked = torch.tensor(wanted, device=device) if wanted else None
        logits, hidden = self.think(cache, start, asked)
        rows = torch.tensor([texts.index((job.caption, job.frames)) for job in jobs], device=device)
        lengths = (self.predicted_frames(logits) if asked is None else asked)[rows]
        latents = self.draw_latents(hidden[rows], [job.seed for job in jobs], guidance, steps)
        joints = self.joints(latents, lengths).cpu().numpy()
        return [clip[: job.frames or int(n)] for clip, job, n in zip(joints, jobs, lengths, strict=True)]

    def draw_latents(
        self, hidden: Tensor, seeds: Sequence[int], guidance: float | None = None, steps: int | None = None
    ) -> Tensor:
        """Normalised latents (B, N, D) from the hidden states of K queries (B, K, motion width), a seed for each."""
        shape = (self.config.vae.latent_tokens, self.config.vae.latent_channels)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        steps = self.config.steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        return self.head.sample(hidden, noise.to(hidden.device), steps, guidance)

    def joints(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Normalised latents (B, N, D) and lengths (B,) -> joints (B, longest, J, 3) with the skeleton's bones."""
        return set_bone_lengths(self.vae.decode_joints(latents, lengths))

    @overload
    def caption(
        self,
        motion: Motion,
        samples: Literal[1] = ...,
        beams: int = ...,
        seed: int = ...,
        decoding: Decoding | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> str: ...

    @overload
    def caption(
        self,
        motion: Motion | Sequence[Motion],
        samples: int = ...,
        beams: int = ...,
        seed: int = ...,
        decoding: Decoding | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> str | list[str]: ...

    def caption(
        self,
        motion: Motion | Sequence[Motion],
        samples: int = 1,
        beams: int = 1,
        seed: int = 0,
        decoding: Decoding | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> str | list[str]:
        """What happens in motions, in English.

        Args:
            motion: a motion of at least a second, or several; one longer than `max_seconds` is described in parts.
            samples: captions per motion; more than one are drawn, with seed, seed + 1 and so on.
            beams: width of the beam search; 1 takes the likeliest word each time.
            seed: of the draws.
            decoding: how words are chosen, instead of `beams` and `seed`.
            progress: wraps the list of batches.

        Returns:
            A sentence for one motion and one sample, else a flat list, motion by motion.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, a number out of range, or a model that
                was trained for text to motion alone.
        """
        if not isinstance(motion, Motion | Sequence):
            raise MotionGPT3Error(f"give a Motion or a list of them, not {type(motion).__name__}")
        motions = [motion] if isinstance(motion, Motion) else list(motion)
        found = describing.caption(self, motions, samples, beams, seed, decoding, progress)
        return found[0][0] if isinstance(motion, Motion) and samples == 1 else [text for each in found for text in each]

    def chat(
        self,
        messages: Chat,
        seed: int = 0,
        decoding: Decoding | None = None,
        guidance: float | None = None,
        steps: int | None = None,
    ) -> Reply:
        """The answer to a conversation: words, a motion, or both, as the model decides.

        Args:
            messages: {"role": "user" or "assistant", "content": …} in turn, a user's first and last. The content is
                text, a Motion, or a list of these in reading order. A motion longer than `max_seconds` is cut.
            seed: of the motion, and of the words where they are drawn.
            decoding: how words are chosen; None takes the likeliest.
            guidance, steps: as in `generate`.

        Raises:
            MotionGPT3Error: an empty or endless conversation or message, roles out of turn, a motion that cannot be
                read, or a model that was trained for text to motion alone.
        """
        return chatting.chat(self, messages, seed, decoding, guidance, steps)

    def describe(self, motions: Sequence[Motion], decoding: Decoding, seeds: Sequence[int]) -> list[str]:
        """A caption of each motion, all of a length that the model reads at once; draws follow the seeds."""
        return describing.describe(self, motions, decoding, seeds)

    def draw_window(
        self,
        before: Motion | None,
        after: Motion | None,
        frames: int,
        prompt: str | None,
        seed: int,
        guidance: float | None = None,
        steps: int | None = None,
    ) -> Motion:
        """A window of motion around frames that the model reads; see `windows.draw_window`."""
        return windows.draw_window(self, before, after, frames, prompt, seed, guidance, steps)

    @torch.inference_mode()
    def decide_frames(self, captions: Sequence[str]) -> list[int]:
        """The frames that the length head gives each cleaned caption."""
        frames: list[int] = []
        for at in range(0, len(captions), 32):
            cache, start = self.read(self.tokens(captions[at : at + 32]))
            frames += [int(n) for n in self.predicted_frames(self.think(cache, start, None)[0])]
        return frames

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """The motion, bit for bit, and `seconds` more of it at its frame rate.

        Args:
            motion: at least one second; the model reads the last two.
            seconds: of the new part; any length.
            prompt: what happens in it, or None.
            seed, guidance, steps: as in `generate`.
            progress: wraps the list of windows that are drawn one after the other.

        Raises:
            MotionGPT3Error: a motion that is too short or of another skeleton, an empty prompt, a number out of range.
        """
        return continuing.predict(self, motion, seconds, prompt, seed, guidance, steps, progress)

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """`start`, `seconds` of new motion from its last frame to the first of `end`, and `end`.

        Arguments and errors as in `predict`; both motions come back bit for bit and must have the same frame rate.
        """
        return continuing.inbetween(self, start, end, seconds, prompt, seed, guidance, steps, progress)

    def compose(
        self,
        prompts: Sequence[str | tuple[str, float]],
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> Motion:
        """One motion that does what each prompt says, one after the other.

        Args:
            prompts: sentences, or (sentence, seconds) of any length; without seconds the model decides.
            seed, guidance, steps: as in `generate`.
            progress: wraps the list of prompts.

        Raises:
            MotionGPT3Error: no prompt, an empty or endless one, or a number out of range.
        """
        return continuing.compose(self, prompts, seed, guidance, steps, progress)[0]
