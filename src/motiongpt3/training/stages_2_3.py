"""Stages 2 and 3: every task at once. Stage 2 keeps the text stream frozen; stage 3 trains it, too, on instructions."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import attention_kernel
from motiongpt3.models.lora import lora_layers
from motiongpt3.models.motiongpt3 import MotionGPT3, backbone_names, read_settings
from motiongpt3.models.network import EncodedMotions
from motiongpt3.models.sequence import IGNORE, pack, split_at_motion
from motiongpt3.models.vae import reparameterise
from motiongpt3.serialization import load_weights
from motiongpt3.training.latents import LatentBank
from motiongpt3.training.loop import RunConfig, TrainingModule, check_settings, device, fit
from motiongpt3.training.task_mix import Examples, Lesson, check_tasks

LENGTHS = {"cpu": (0, 12, 26, 52, 104, 208), "cuda": (0, 40, 208)}
"""Most words of the lessons that run together: padding costs a CPU most, passes cost a GPU most."""


@dataclass(frozen=True)
class AlignConfig:
    """One run of stage 2 or 3."""

    run: RunConfig
    data: list[Path]
    """Packed files: the recorded clips first, then pools made from them."""
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
    parts: int = 1
    """Random parts of each clip that are trained on, besides the whole."""
    balance: float = 0.5
    """0 draws clips alike, 1 draws actions alike."""
    pool_share: float = 0.2
    """Share of draws that go to the pools."""
    latents: Path | None = None
    """File that keeps the training clips' latents from one run to the next; made if it is not there."""
    licenses: list[str] | None = None
    """Train only on clips under these licences."""

    def __post_init__(self) -> None:
        check_settings(
            self,
            text_rank=(1, 1024),
            batch=(1, 10**6),
            noise_levels=(1, 1000),
            parts=(0, 1000),
        )
        check_settings(self, text_weight=(0, 1e6), motion_weight=(0, 1e6), length_weight=(0, 1e6))
        check_settings(self, pool_share=(0, 1), balance=(0, 10))
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
        torch.manual_seed(config.run.seed)
        self.model = start_model(config, start).to(device or torch.device("cpu"))
        packs = [PackedClips.open(path) for path in config.data]
        clips = ClipBank(packs, "train", config.licenses, config.pool_share).to(self.model.queries.device)
        held = ClipBank(packs[:1], "val", config.licenses).to(self.model.queries.device)
        vae, seed = self.model.vae, config.run.seed
        self.bank = LatentBank(
            clips,
            vae,
            config.parts,
            seed,
            config.balance,
            config.pool_share,
            ends=True,
            cache=config.latents,
            labels=False,
        )
        self.held = LatentBank(held, vae, parts=0, ends=True, labels=False)
        stage: Literal[2, 3] = 2 if config.stage == "2" else 3
        self.examples = Examples(self.model, config.tasks, stage, config.learn_prompts)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """What trains and what ships; the frozen language model is not copied into every checkpoint."""
        state = super().state_dict(*args, **kwargs)
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {
            name: value for name, value in state.items() if not name.startswith("model.backbone.") or name in trained
        }

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """The inverse of `state_dict`."""
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def losses(
        self, bank: LatentBank, picked: Tensor, captions: list[int], seed: int, in_words: bool | None = None
    ) -> dict[str, Tensor]:
        """Means of the losses over a batch's learned words, drawn motions and drawn whole clips; no term for none.

        Args:
            bank: the clips.
            picked: (B,) entries.
            captions: (B,) a caption of each.
            seed: decides tasks, phrasings and noise.
            in_words: see `Examples.make`.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        batch, ends = bank.rows(picked, captions), bank.ends(picked)
        mean = torch.cat([batch.mean, *ends.mean])
        spread = torch.cat([batch.log_variance, *ends.log_variance])
        noise = torch.randn(mean.shape, generator=generator, device=self.device)
        latents = self.model.vae.normalise_latents(reparameterise(mean, spread, noise))
        motions = EncodedMotions(latents, torch.cat([batch.frames, *ends.frames]))
        lessons = self.examples.make(
            [bank.captions[i] for i in captions], motions.frames.view(3, -1), batch.whole, seed, in_words
        )

        words, targets, thoughts, drawn, whole = [], [], [], [], []
        for group in by_length(lessons, LENGTHS[self.device.type]):
            logits, wanted, hidden = self.run_group(group, motions)
            words.append(logits)
            targets.append(wanted)
            thoughts.append(hidden)
            drawn += [lesson.draws for lesson in group if lesson.draws is not None]
            whole += [lesson.tells_length for lesson in group if lesson.draws is not None]
        wanted, hidden = torch.cat(targets), torch.cat(thoughts)
        terms: dict[str, Tensor] = {}
        if len(wanted):
            terms["words"] = F.cross_entropy(torch.cat(words).float(), wanted)
        if drawn:
            noise_levels = self.config.noise_levels
            terms["diffusion"] = self.model.head.loss(hidden[:, 1:], latents[drawn], noise_levels, generator).mean()
        if any(whole):
            terms["length"] = self._length(hidden, motions.frames[drawn], torch.tensor(whole, device=self.device))
        return terms

    def run_group(self, group: list[Lesson], motions: EncodedMotions) -> tuple[Tensor, Tensor, Tensor]:
        """One pass over lessons of like length.

        Returns:
            logits and targets of the learned words (W, vocabulary), (W,), and hidden states of the drawn motions
            (R, K + 1, motion width).
        """
        model, rows = self.model, []
        shown: list[int] = []
        drawn: list[int] = []
        for lesson in group:
            rows.append(lesson.renumbered(len(shown), len(drawn)))
            shown += lesson.shows
            drawn += [lesson.draws] if lesson.draws is not None else []
        cache, starts = None, None
        if self.config.text == "frozen":  # what stands before the first motion costs no backward pass
            heads, rows = split_at_motion(rows, model.backbone.start_of_motion)
            different = {tuple(head): number for number, head in enumerate(dict.fromkeys(map(tuple, heads)))}
            with torch.no_grad():
                cache, places = model.encode_text(list(different))
            picked = torch.tensor([different[tuple(head)] for head in heads], device=self.device)
            cache, starts = cache.select(picked), places[picked].tolist()
        layout = pack(rows, model.motion_tokens, starts).to(self.device)
        read = EncodedMotions(motions.latents[shown], motions.frames[shown])
        with attention_kernel(self.kernel):
            words, hidden = model(layout, read, motions.frames[drawn] if drawn else None, cache)
        learned = layout.targets != IGNORE
        said = words[learned] if words is not None else model.backbone.embedding[:0]
        return model.backbone.logits(said), layout.targets[learned], hidden

    def _length(self, hidden: Tensor, frames: Tensor, known: Tensor) -> Tensor:
        """Cross entropy of the durations of the motions whose words tell it: hidden (R, K + 1, width), frames (R,)."""
        logits = self.model.predict_length(hidden[known, 0]).float()
        return F.cross_entropy(logits, self.model.length_classes(frames[known]))

    def training_step(self, _: Any, index: int) -> Tensor:
        """One step on batch number `global_step`."""
        seed = self.run.seed * 7_000_003 + self.global_step
        picked, captions = self.bank.draw(self.config.batch, self.run.seed, self.global_step)
        losses = self.losses(self.bank, picked, captions, seed)
        config = self.config
        weights = {"words": config.text_weight, "diffusion": config.motion_weight, "length": config.length_weight}
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        return self.guard(loss, lambda: ", ".join(self.bank.names(picked)))

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """The losses over the whole clips of the validation split, with the same tasks and noise every time.

        Every clip is used for both kinds of lesson, those that are answered in words and the others.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        for number, rows in enumerate(self.held.whole_clips().split(64)):
            for kind in self.examples.kinds:
                losses = self.losses(self.held, rows, self.held.first_captions(rows), number, kind)
                for name, value in losses.items():
                    found[name].append(torch.stack([value * len(rows), torch.tensor(len(rows), device=self.device)]))
        means = {name: torch.stack(values).sum(0) for name, values in found.items()}
        self.log_dict({f"val/{name}": total / count for name, (total, count) in means.items()}, batch_size=1)


def by_length(lessons: list[Lesson], lengths: tuple[int, ...]) -> list[list[Lesson]]:
    """Lessons of like length together, so that little is padded."""
    groups = defaultdict(list)
    for lesson in lessons:
        groups[bisect_left(lengths, lesson.words)].append(lesson)
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
