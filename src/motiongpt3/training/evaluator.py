"""Training the text-motion evaluator: captions and motions of a batch must find each other.

The sentence encoder does not train, so the vectors of all sentences are computed once (`SentenceTable`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from motiongpt3.data.clips import Clip
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.caption_check import other_direction, other_side, sides
from motiongpt3.evaluation.recognition import recognition
from motiongpt3.evaluation.tmr import TMR, SentenceEncoder, TMRConfig
from motiongpt3.motion.features import mirror_features
from motiongpt3.motion.motion import mirror_text
from motiongpt3.serialization import atomic_path, load_weights, parse_config
from motiongpt3.training.trainer import FeatureTraining, FeatureTrainingConfig, check_settings, fit

NOT_NEGATIVE = -1e4
"""Logit of a pair that is no negative: its share of the softmax is 0 in any precision."""


class SentenceTable(nn.Module):
    """Sentences -> their vectors, without the encoder.

    Args:
        texts: all sentences that will be asked for.
        name: of the sentence encoder.
        file: where the vectors are kept, as float16; made anew where it holds other sentences.
    """

    vectors: Tensor

    def __init__(self, texts: Sequence[str], name: str, file: Path) -> None:
        super().__init__()
        unique = sorted(set(texts))
        self._rows = {text: row for row, text in enumerate(unique)}
        key = hashlib.sha256(json.dumps([name, unique]).encode()).hexdigest()
        vectors, self.sha256 = _read(file, key)
        if vectors is None:
            encoder = SentenceEncoder(name)
            vectors, self.sha256 = encoder(unique).half(), encoder.sha256
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MotionGPT3Error(f"cannot write {file.parent}: {error.strerror}") from None
            with atomic_path(file) as temporary:
                save_file({"vectors": vectors}, temporary, metadata={"texts": key, "encoder": self.sha256})
        self.register_buffer("vectors", vectors, persistent=False)

    @property
    def channels(self) -> int:
        """S, of a vector."""
        return self.vectors.shape[1]

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Sentences -> (N, S) float32."""
        rows = torch.tensor([self._rows[text] for text in texts], dtype=torch.long, device=self.vectors.device)
        return self.vectors[rows].float()


def _read(file: Path, key: str) -> tuple[Tensor | None, str]:
    """The vectors in a file and the hash of their encoder; None if it is missing, damaged or of other sentences."""
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata() or {}
            return (stored.get_tensor("vectors"), about["encoder"]) if about.get("texts") == key else (None, "")
    except (OSError, SafetensorError, KeyError):
        return None, ""


@dataclass(frozen=True)
class EvaluatorTrainingConfig(FeatureTrainingConfig):
    """One run that trains a text-motion evaluator."""

    model: TMRConfig = field(default_factory=TMRConfig)
    _: KW_ONLY
    batch: int = 128
    """Clips per step, each with one of its captions."""
    crop: float = 0.5
    """How often a clip is cut to a random part, where its caption is true of any part."""
    balance: float = 0.5
    temperature: float = 0.07
    """What similarities are divided by at first; it is learnt."""
    alike: float = 0.85
    """Captions of which the sentence encoder thinks more alike than this, and which name the same sides and
    directions, are not told apart."""
    noise: float = 0.0
    """Standard deviation of what is added to normalised features."""
    licenses: list[str] | None = None
    """Train only on clips under these licences."""

    def __post_init__(self) -> None:
        check_settings(self, batch=(2, 10**6), temperature=(0.005, 10), alike=(-1, 1), noise=(0, 10))
        super().__post_init__()
        parse_config(TMRConfig, asdict(self.model))


@dataclass(frozen=True)
class PairBatch:
    """B motions with a caption each.

    Attributes:
        motions: B tensors (T, F), not normalised.
        texts: B captions, mirrored where the motion is.
        actions: B words for what the clip shows, side and style included; those of one action are no negatives.
        clips: B clip ids.
    """

    motions: list[Tensor]
    texts: list[str]
    actions: list[str]
    clips: list[str]


class EvaluatorTraining(FeatureTraining):
    """The evaluator, its loss and its validation."""

    def __init__(self, config: EvaluatorTrainingConfig) -> None:
        super().__init__(config, config.licenses)
        self.config = config
        self.captioned = torch.tensor([bool(clip.captions) for clip in self.bank.clips])
        if not self.captioned.any():
            file = self.packs[0].path
            raise MotionGPT3Error(f"{file} has no captions in its train split: there is nothing to learn from")
        self.network = self.with_statistics(TMR(config.model))
        self.scale = torch.nn.Parameter(torch.tensor(float(-np.log(config.temperature))))
        texts = [text for clip in (*self.bank.clips, *self.held.clips) for text in clip.captions]
        texts += [mirror_text(text) for text in texts]
        texts += [flipped for text in texts if (flipped := other_direction(text))]
        self.table = SentenceTable(texts, config.model.sentences, Path(config.run.out) / "sentences.safetensors")
        if self.table.channels != config.model.sentence_channels:
            raise MotionGPT3Error(
                f"model.sentence_channels must be {self.table.channels}, as many as the sentence encoder gives"
            )

    def draw(self, step: int) -> PairBatch:
        """Batch number `step`; a function of the seed and the step alone."""
        rng = np.random.default_rng((self.run.seed, step))
        generator = torch.Generator().manual_seed(self.run.seed * 1_000_003 + step)
        weights = self.bank.weights.cpu() * self.captioned
        chosen = torch.multinomial(weights, self.config.batch, replacement=True, generator=generator)
        pairs = []
        for number in chosen.tolist():
            clip = self.bank.clips[number]
            start, length, pick = self._part(clip, rng)
            first = int(self.bank.starts[number]) + start
            motion, text, action = self.bank.features[first : first + length], clip.captions[pick], clip.short
            if rng.random() < 0.5:
                motion, text, action = mirror_features(motion), mirror_text(text), mirror_text(action)
            if self.config.noise:
                size = self.config.noise * self.network.feature_std
                motion = motion + size * torch.randn(motion.shape, generator=generator).to(motion)
            pairs.append((motion, text, action or clip.id, clip.id))
        return PairBatch(*map(list, zip(*pairs, strict=True)))

    def _part(self, clip: Clip, rng: np.random.Generator) -> tuple[int, int, int]:
        """First frame, frames and caption: any caption of the whole clip, or one that is true of any part of it."""
        longest = self.config.model.max_frames
        safe = [number for number, fine in enumerate(clip.crop_safe) if fine]
        if not safe or (clip.frames <= longest and rng.random() >= self.config.crop):
            return 0, clip.frames, int(rng.integers(len(clip.captions)))
        most = min(clip.frames, longest)
        length = int(rng.integers(min(most, max(20, most // 2)), most + 1))
        return int(rng.integers(clip.frames - length + 1)), length, int(rng.choice(safe))

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """See `TrainingModule`; all that is random is in the batch."""
        batch = self.draw(self.global_step)
        with self.attention():
            motion = self.network.embed_clips(batch.motions)
        loss, right = self.loss(motion, batch)
        return loss, {"right": right, "scale": self.scale.exp()}, lambda: batch.clips

    def loss(self, motion: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """InfoNCE both ways with filtered negatives, and how often the own caption comes first.

        Beside the captions of the others, a motion is told from its own caption with left and right, or forward and
        backward, swapped.

        Args:
            motion: (B, D) of `batch.motions`.
            batch: the texts.
        """
        sentence = self.table(batch.texts)
        text = self.network.embed_sentences(sentence)
        scale = self.scale.exp().clamp(max=100)
        logits = scale * motion @ text.T
        logits = logits.masked_fill(no_negatives(batch, sentence, self.config.alike).to(motion.device), NOT_NEGATIVE)
        own = logits.diagonal()
        opposite = torch.full((len(motion), 2), NOT_NEGATIVE, device=motion.device)
        for column, change in enumerate((other_side, other_direction)):
            rows = [row for row, said in enumerate(batch.texts) if change(said)]
            if rows:
                at = torch.tensor(rows, device=motion.device)
                wrong = self.network.embed_sentences(self.table([change(batch.texts[row]) or "" for row in rows]))
                values = scale * (motion[at] * wrong).sum(-1)
                opposite = opposite.index_put((at, torch.full_like(at, column)), values.to(opposite))
        truth = torch.arange(len(motion), device=motion.device)
        loss = 0.5 * (F.cross_entropy(torch.cat([logits, opposite], 1), truth) + F.cross_entropy(logits.T, truth))
        return loss, (own >= logits.amax(1)).float().mean().detach()

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """Do captions of the validation split find their clips?"""
        kept = [number for number, clip in enumerate(self.held.clips) if clip.captions]
        clips = [self.held.clips[number] for number in kept]
        starts = [int(self.held.starts[number]) for number in kept]
        motions = [self.held.features[start : start + clip.frames] for start, clip in zip(starts, clips, strict=True)]
        found = recognition(
            clips,
            self.network.embed_clips(motions),
            self.network.embed_clips([mirror_features(motion) for motion in motions]),
            lambda texts: self.network.embed_sentences(self.table(texts)),
        )
        for name, values in found.items():
            self.log(f"val/{name}", values.mean(), prog_bar=name == "r_precision_3", batch_size=1)


def no_negatives(batch: PairBatch, sentence: Tensor, alike: float) -> Tensor:
    """(B, B) which pairs are left out: another clip of the same action, or a caption that says the same.

    Args:
        batch: the pairs.
        sentence: (B, S) vectors of the captions; their last half is compared.
        alike: cosine similarity above which captions say the same, if they name the same sides and directions.
    """
    half = F.normalize(sentence[:, sentence.shape[1] // 2 :], dim=-1)
    same = _equal(batch.actions) | (half @ half.T > alike).cpu() & _equal([sides(text) for text in batch.texts])
    return same.fill_diagonal_(False)


def _equal(values: Sequence[Any]) -> Tensor:
    """(B, B) which values equal each other."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    index = torch.tensor([numbers[value] for value in values])
    return index[:, None] == index


def train_evaluator(
    config: EvaluatorTrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """Train a text-motion evaluator; as `train_vae`, `start` is an evaluator's folder. Returns the folder of ours."""
    module = EvaluatorTraining(config)
    if start is not None:
        load_weights(module.network, start)
    fit(module, resume, progress)
    folder = Path(config.run.out) / "evaluator"
    module.network.save(folder, module.table.sha256)
    return folder
