"""Stages 2 and 3: every task at once. Stage 2 keeps the text stream frozen; stage 3 trains it, too, on instructions."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.lora import lora_layers
from motiongpt3.models.motiongpt3 import MotionGPT3, backbone_names, read_settings
from motiongpt3.models.network import EncodedMotions
from motiongpt3.models.sequence import IGNORE, pack, split_at_motion
from motiongpt3.serialization import load_weights
from motiongpt3.training.latents import LatentBank, LatentBatch, LatentTrainingConfig, latent_banks, sample_latents
from motiongpt3.training.task_mix import TaskMix, TrainingSequence, check_tasks
from motiongpt3.training.trainer import TrainingModule, check_settings, device, fit, mean_over_clips

MAX_WORDS = {"cpu": (0, 12, 26, 52, 104, 208), "cuda": (0, 40, 208)}
"""Bounds of words between which sequences run together: padding costs a CPU most, passes cost a GPU most."""


@dataclass(frozen=True)
class AlignConfig(LatentTrainingConfig):
    """One run of stage 2 or 3."""

    tasks: dict[str, float] = field(default_factory=lambda: {"caption_to_motion": 1.0, "motion_to_caption": 1.0})
    """Tasks and how often each is drawn, in any unit."""
    stage: Literal["2", "3"] = "2"
    """How tasks are put: a few short prompts (2), or a hundred phrasings of each (3)."""
    text: Literal["frozen", "low-rank", "whole"] = "frozen"
    """What trains of the text stream: nothing (stage 2), low-rank updates of its attention, or all of it."""
    text_rank: int = 4
    """Rank of the low-rank updates."""
    batch: int = 32
    """Sequences per step."""
    noise_levels: int = 4
    """Noise levels per drawn motion and step."""
    text_weight: float = 1.0
    """Weight of the cross entropy of written words."""
    motion_weight: float = 1.0
    """Weight of the diffusion loss."""
    length_weight: float = 0.1
    """Weight of the length head's cross entropy."""
    learn_prompts: bool = False
    """Also learn to write the prompts; otherwise only the answers."""
    _: KW_ONLY
    parts: int = 1
    pool_share: float = 0.2
    latents: Path | None = None
    """File that keeps the training clips' latents from one run to the next; made if it is not there."""
    licenses: list[str] | None = None
    """Train only on clips under these licences."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, text_rank=(1, 1024), batch=(1, 10**6), noise_levels=(1, 1000))
        check_settings(self, text_weight=(0, 1e6), motion_weight=(0, 1e6), length_weight=(0, 1e6))
        check_tasks(self.tasks, self.stage, self.text != "frozen")


class AlignTraining(TrainingModule):
    """Cross entropy of the written answers, diffusion loss of the drawn motions, and the length head's.

    Args:
        config: the run.
        start: folder of the model to start from.
        device: where to encode the clips.
    """

    def __init__(self, config: AlignConfig, start: Path, device: torch.device | None = None) -> None:
        super().__init__(config.run)
        self.config = config
        self.model = start_model(config, start).to(device or torch.device("cpu"))
        self.bank, self.held = latent_banks(
            config, self.model.vae, config.licenses, config.latents, ends=True, labels=False
        )
        self.mix = TaskMix(self.model, config.tasks, 2 if config.stage == "2" else 3, config.learn_prompts)

    def losses(
        self, bank: LatentBank, batch: LatentBatch, seed: int, in_words: bool | None = None
    ) -> dict[str, Tensor]:
        """Means of the losses over a batch's learned words, drawn motions and drawn whole clips; no term for none.

        Args:
            bank: where the batch comes from.
            batch: the clips and a caption of each.
            seed: decides tasks, phrasings and noise.
            in_words: see `TaskMix.sequences`.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        mean, log_variance = (each[:, batch.entries].flatten(0, 1) for each in (bank.mean, bank.log_variance))
        frames = bank.frames[:, batch.entries]
        motions = EncodedMotions(sample_latents(self.model.vae, mean, log_variance, generator), frames.flatten())
        texts = [bank.captions[i] for i in batch.captions]
        sequences = self.mix.sequences(texts, frames, batch.whole, seed, in_words)
        groups = by_length(sequences, MAX_WORDS[self.device.type])
        passes = [self.run_group(group, motions) for group in groups]
        logits, targets, hidden = map(torch.cat, zip(*passes, strict=True))
        drawing = [sequence for group in groups for sequence in group if sequence.draws is not None]
        terms: dict[str, Tensor] = {}
        if len(targets):
            terms["words"] = F.cross_entropy(logits.float(), targets)
        if drawing:
            drawn = torch.tensor([sequence.draws for sequence in drawing], device=self.device)
            levels = self.config.noise_levels
            terms["diffusion"] = self.model.head.loss(hidden[:, 1:], motions.latents[drawn], levels, generator).mean()
            told = torch.tensor([sequence.tells_length for sequence in drawing], device=self.device)
            if told.any():
                classes = self.model.length_classes(motions.frames[drawn][told])
                terms["length"] = F.cross_entropy(self.model.predict_length(hidden[told, 0]).float(), classes)
        return terms

    def run_group(self, group: list[TrainingSequence], motions: EncodedMotions) -> tuple[Tensor, Tensor, Tensor]:
        """One pass over sequences of like length.

        Returns:
            logits and targets of the learned words (W, vocabulary), (W,), and hidden states of the drawn motions
            (R, K + 1, motion width).
        """
        model, rows = self.model, []
        shown: list[int] = []
        drawn: list[int] = []
        for sequence in group:
            rows.append(sequence.renumbered(len(shown), len(drawn)))
            shown += sequence.shows
            drawn += [sequence.draws] if sequence.draws is not None else []
        cache, starts = None, None
        if self.config.text == "frozen":  # what stands before the first motion costs no backward pass
            heads, rows = split_at_motion(rows, model.backbone.start_of_motion)
            different = {tuple(head): number for number, head in enumerate(dict.fromkeys(map(tuple, heads)))}
            with torch.no_grad():
                cache, places = model.encode_text(list(different))
            picked = torch.tensor([different[tuple(head)] for head in heads], device=self.device)
            cache, starts = cache.select(picked), places[picked].tolist()
        packed = pack(rows, model.motion_tokens, starts).to(self.device)
        read = EncodedMotions(motions.latents[shown], motions.frames[shown])
        with self.attention():
            words, hidden = model(packed, read, motions.frames[drawn] if drawn else None, cache)
        learned = packed.targets != IGNORE
        said = words[learned] if words is not None else model.backbone.embedding[:0]
        return model.backbone.logits(said), packed.targets[learned], hidden

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """See `TrainingModule`."""
        config = self.config
        batch = self.bank.batch(config.batch, self.run.seed, self.global_step)
        terms = self.losses(self.bank, batch, seed)
        weights = {"words": config.text_weight, "diffusion": config.motion_weight, "length": config.length_weight}
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        return loss, terms, lambda: batch.clips

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """The losses over the whole clips of the validation split, with the same tasks and noise every time.

        Every clip is used for both kinds of sequences, those that are answered in words and the others.
        """
        means = mean_over_clips(
            (len(batch.clips), self.losses(self.held, batch, number, kind))
            for number, batch in enumerate(self.held.whole_clips(64))
            for kind in self.mix.kinds
        )
        self.log_dict({f"val/{name}": value for name, value in means.items()}, batch_size=1)


def by_length(sequences: list[TrainingSequence], bounds: tuple[int, ...]) -> list[list[TrainingSequence]]:
    """Sequences of like length together, so that little is padded."""
    groups = defaultdict(list)
    for sequence in sequences:
        groups[bisect_left(bounds, sequence.words)].append(sequence)
    return [groups[key] for key in sorted(groups)]


def start_model(config: AlignConfig, start: Path) -> MotionGPT3:
    """The model in `start`, with what this stage trains of its text stream; the VAE and the rest of it are frozen."""
    settings, sha256, complete = read_settings(start)
    if complete:
        raise MotionGPT3Error(f"{start} carries its own language model; stages 2 and 3 start from one that names it")
    rank = config.text_rank if config.text == "low-rank" else settings.text_rank
    backbone = load_backbone(settings.backbone, sha256=sha256, dtype=torch.bfloat16)
    model = MotionGPT3(replace(settings, stage=int(config.stage), text_rank=rank), backbone)
    fresh: tuple[str, ...] = ("understand.", "shown") if settings.stage == 1 else ()
    if settings.text_rank is None:
        fresh += ("backbone.stream.",)
    if config.text == "whole":
        backbone.float()
    backbone.special.data = backbone.special.float()  # bfloat16 would swallow most of its steps
    load_weights(model, start, absent=(*backbone_names(backbone), *fresh))
    model.vae.requires_grad_(False).eval()
    model.backbone.freeze()
    if config.text == "low-rank":
        for _, layer in lora_layers(model.backbone):
            layer.down.requires_grad_(True)
            layer.up.requires_grad_(True)
        model.backbone.special.requires_grad_(True)
    elif config.text == "whole":
        model.backbone.stream.freeze(False)
        model.backbone.requires_grad_(True)
    return model


def train_align(config: AlignConfig, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Stage 2 or 3; as `train_stage1`, but a model to start from is needed."""
    if start is None:
        raise MotionGPT3Error(f"stage {config.stage} goes on from a trained model: give its folder with --start")
    module = AlignTraining(config, start, device(config.run.accelerator))
    fit(module, resume, progress)
    folder = Path(config.run.out) / "model"
    module.model.save_pretrained(folder, include_backbone=config.text == "whole")
    return folder
