"""MotionGPT3: words in, motion out, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models import chatting, continuing, describing, windows
from motiongpt3.models.chatting import Chat, Reply
from motiongpt3.models.network import Network
from motiongpt3.models.pretrained import Pretrained
from motiongpt3.models.request import check_request
from motiongpt3.models.writing import Decoding
from motiongpt3.motion.motion import Motion


class Job(NamedTuple):
    """A motion to draw: the user's words, the cleaned ones, duration in frames (None: the model decides) and seed."""

    prompt: str
    caption: str
    frames: int | None
    seed: int


class MotionGPT3(Network, Pretrained):
    """The model and all it can do: each method is a task. See `Network` for how it is built.

    Args:
        config: sizes.
        backbone: the text stream with its tokenizer and embeddings.
    """

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
            drawn = self.draw([jobs[n] for n in batch], asked.guidance, asked.steps)
            for n, joints in zip(batch, drawn, strict=True):
                made[n] = Motion(joints, self.config.fps, jobs[n].prompt, f"seed {jobs[n].seed}")
        motions = [made[n] for n in range(len(jobs))]
        return motions[0] if isinstance(prompt, str) and asked.samples == 1 else motions

    def draw(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[np.ndarray]:
        """Joints (T, J, 3) of a batch of jobs that all have a duration, or all have none; they may not be finite."""
        return self.realise(*self.conceive(jobs), [job.seed for job in jobs], guidance, steps)

    @torch.inference_mode()
    def conceive(self, jobs: Sequence[Job]) -> tuple[Tensor, list[int]]:
        """What words and duration alone decide of a batch of jobs, which all have a duration or all have none.

        Most of the work of a motion lies here, and it is the same for every seed. A text is read once for all its jobs.

        Returns:
            hidden states of the queries (B, K, motion width), and the frames of each job.
        """
        device = self.queries.device
        texts = list(dict.fromkeys((job.caption, job.frames) for job in jobs))
        cache, start = self.read(self.tokens([caption for caption, _ in texts]))
        wanted = [max(frames, self._least_frames) for _, frames in texts if frames is not None]
        asked = torch.tensor(wanted, device=device) if wanted else None
        logits, hidden = self.think(cache, start, asked)
        rows = torch.tensor([texts.index((job.caption, job.frames)) for job in jobs], device=device)
        decided = self.predicted_frames(logits)[rows].tolist()
        return hidden[rows], [job.frames or int(n) for job, n in zip(jobs, decided, strict=True)]

    @torch.inference_mode()
    def realise(
        self, hidden: Tensor, frames: Sequence[int], seeds: Sequence[int], guidance: float, steps: int
    ) -> list[np.ndarray]:
        """Joints (T, J, 3) of motions that were conceived, each drawn with its seed."""
        lengths = torch.tensor([max(n, self._least_frames) for n in frames], device=hidden.device)
        joints = self.joints(self.draw_latents(hidden, seeds, guidance, steps), lengths).cpu().numpy()
        return [clip[:n] for clip, n in zip(joints, frames, strict=True)]

    @property
    def _least_frames(self) -> int:
        return min(self.config.vae.min_frames, self.config.vae.max_frames)

    @overload
    def caption(
        self,
        motion: Motion,
        samples: Literal[1] = ...,
        beams: int = ...,
        seed: int = ...,
        decoding: Decoding | None = ...,
        candidates: int | None = ...,
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
        candidates: int | None = ...,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = ...,
    ) -> str | list[str]: ...

    def caption(
        self,
        motion: Motion | Sequence[Motion],
        samples: int = 1,
        beams: int = 1,
        seed: int = 0,
        decoding: Decoding | None = None,
        candidates: int | None = None,
        progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
    ) -> str | list[str]:
        """What happens in motions, in English.

        Args:
            motion: a motion of at least a second, or several; one longer than `max_seconds` is described in parts.
            samples: captions per motion; more than one are drawn, with seed, seed + 1 and so on.
            beams: width of the beam search.
            seed: of the draws.
            decoding: how words are chosen, instead of `beams` and `seed`.
            candidates: captions to draw, of which the one is kept that the model would soonest draw the motion from
                (`models.weighing`); 1 takes the likeliest word each time. None: as many as the model's configuration
                says, and 1 with samples, beams or decoding.
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
        found = describing.caption(self, motions, samples, beams, seed, decoding, candidates, progress)
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
