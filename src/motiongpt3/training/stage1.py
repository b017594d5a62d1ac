"""Stage 1: text to motion. The text stream is frozen; the motion stream and the heads learn.

Since the text stream is frozen and comes first, the keys and values of a prompt never change: `PromptCache` can compute
those of all prompts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import KVCache
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import load_vae
from motiongpt3.serialization import load_weights
from motiongpt3.training.latents import LatentBatch, LatentTrainingConfig, latent_banks, sample_latents
from motiongpt3.training.trainer import TrainingModule, check_settings, device, fit, mean_over_clips


@dataclass(frozen=True)
class Stage1Config(LatentTrainingConfig):
    """One run of stage 1."""

    vae: Path
    """Folder that `motiongpt3 train vae` wrote."""
    model: MotionGPT3Config = field(default_factory=MotionGPT3Config)
    batch: int = 64
    """Clips per step."""
    noise_levels: int = 4
    """Noise levels per clip and step."""
    length_weight: float = 0.1
    """Weight of the length head's cross entropy."""
    _: KW_ONLY
    text_cache: Literal["disk", "none"] = "disk"
    """Keep the prompts' keys and values on disk, or compute them in every step."""
    latents: Path | None = None
    """File that keeps the training clips' latents from one run to the next; made if it is not there."""
    licenses: list[str] | None = None
    """Train only on clips under these licences."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, batch=(1, 10**6), noise_levels=(1, 1000), length_weight=(0, 1e6))
        MotionGPT3Config.from_dict(asdict(self.model))


class PromptCache:
    """What motion queries see of each prompt: the text stream's keys and values.

    Args:
        model: its text stream reads the prompts.
        captions: cleaned captions.
        file: keep keys and values of all captions in this memory-mapped file (about 23 kB a token for SmolLM2-135M);
            None computes them anew each time, which is what an accelerator does faster.
    """

    def __init__(self, model: MotionGPT3, captions: Sequence[str], file: Path | None) -> None:
        self.model = model
        self.tokens = model.tokens(captions)
        self.file = file
        self.starts = torch.tensor([0, *[len(t) for t in self.tokens]]).cumsum(0)
        if file is not None:
            self.store = self._open(file)

    def _open(self, file: Path) -> Tensor:
        """The stored tensor (tokens, 2, layers, kv heads, head size), filled first if it is not there yet."""
        config = self.model.backbone.stream.config
        shape = (int(self.starts[-1]), 2, config.layers, config.kv_heads, config.head_size)
        done = file.with_suffix(".done")
        file.parent.mkdir(parents=True, exist_ok=True)
        fingerprint = f"{shape} {hash_tokens(self.tokens)} {self.model.backbone.sha256}"
        store = torch.from_file(str(file), shared=True, size=prod(shape), dtype=torch.bfloat16).view(shape)
        if not (done.is_file() and done.read_text() == fingerprint):
            done.unlink(missing_ok=True)
            self._fill(store)
            done.write_text(fingerprint)
        return store

    @torch.no_grad()
    def _fill(self, store: Tensor, size: int = 64) -> None:
        order = sorted(range(len(self.tokens)), key=lambda i: len(self.tokens[i]))
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        for rows in tqdm(batches, desc="text cache", disable=None):
            cache, lengths = self.model.encode_text([self.tokens[i] for i in rows])
            tensors = cache.tensors()
            both = torch.stack([tensors["keys"], tensors["values"]], dim=1)
            for row, (i, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
                part = both[row, :, :, :length].permute(2, 0, 1, 3, 4)
                store[self.starts[i] : self.starts[i + 1]] = part.to(store)

    @torch.no_grad()
    def read(self, captions: Sequence[int]) -> tuple[KVCache, Tensor]:
        """As `Network.encode_text`, for captions by their index."""
        if self.file is None:
            return self.model.encode_text([self.tokens[i] for i in captions])
        device = self.model.queries.device
        lengths = torch.tensor([len(self.tokens[i]) for i in captions])
        at = torch.arange(int(lengths.max()))
        mask = at < lengths.unsqueeze(1)
        index = torch.where(mask, self.starts[list(captions)].unsqueeze(1) + at, 0)
        both = self.store[index].to(device).permute(2, 0, 3, 1, 4, 5)
        positions = at.expand_as(index).to(device)
        return KVCache.from_tensors(both[0], both[1], positions, mask.to(device)), lengths.to(device)


def hash_tokens(tokens: Sequence[Sequence[int]]) -> str:
    """A fingerprint of all prompts, to know whether a stored cache is theirs."""
    lines = (",".join(map(str, row)) + "\n" for row in tokens)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


class Stage1Training(TrainingModule):
    """Text to motion: the diffusion head's loss and the length head's."""

    def __init__(self, config: Stage1Config, device: torch.device | None = None) -> None:
        super().__init__(config.run)
        self.config = config
        self.model = build_model(config.model, config.vae).to(device or torch.device("cpu"))
        self.bank, self.held = latent_banks(config, self.model.vae, config.licenses, config.latents)
        folder = Path(config.run.out) / "text" if config.text_cache == "disk" else None
        self.prompts = PromptCache(self.model, self.bank.captions, folder and folder / "train.bin")
        self.held_prompts = PromptCache(self.model, self.held.captions, folder and folder / "val.bin")

    def losses(self, batch: LatentBatch, prompts: PromptCache, generator: torch.Generator) -> dict[str, Tensor]:
        """Means of the diffusion loss over clips and of the length loss over whole clips."""
        latents = sample_latents(self.model.vae, batch.mean, batch.log_variance, generator)
        cache, start = prompts.read(batch.captions)
        with self.attention():
            logits, hidden = self.model.run_queries(cache, start, batch.frames)
        diffusion = self.model.head.loss(hidden, latents, self.config.noise_levels, generator)
        length = length_loss(logits, self.model.length_classes(batch.frames), batch.whole)
        return {"diffusion": diffusion.mean(), "length": length}

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """See `TrainingModule`."""
        batch = self.bank.batch(self.config.batch, self.run.seed, self.global_step)
        terms = self.losses(batch, self.prompts, torch.Generator(self.device).manual_seed(seed))
        return terms["diffusion"] + self.config.length_weight * terms["length"], terms, lambda: batch.clips

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """Both losses over the whole clips of the validation split, with the same noise every time."""
        generator = torch.Generator(self.device).manual_seed(0)
        batches = self.held.whole_clips(64)
        means = mean_over_clips((len(b.clips), self.losses(b, self.held_prompts, generator)) for b in batches)
        self.log("val/diffusion", means["diffusion"], prog_bar=True, batch_size=1)
        self.log("val/length", means["length"], batch_size=1)


def length_loss(logits: Tensor, classes: Tensor, whole: Tensor) -> Tensor:
    """Mean cross entropy of the length head over whole clips, 0 without any; logits (B, classes), the others (B,)."""
    each = F.cross_entropy(logits.float(), classes, reduction="none")
    return (each * whole).sum() / whole.sum().clamp(min=1)


def build_model(config: MotionGPT3Config, vae: Path) -> MotionGPT3:
    """A model with new motion parts, a frozen language model and a frozen trained VAE."""
    trained = load_vae(vae)
    model = MotionGPT3(replace(config, vae=trained.config), load_backbone(config.backbone, dtype=torch.bfloat16))
    model.vae.load_state_dict(trained.state_dict())
    model.vae.requires_grad_(False).eval()
    model.backbone.freeze()
    return model


def train_stage1(config: Stage1Config, resume: bool = False, start: Path | None = None, progress: bool = True) -> Path:
    """Train text to motion; as `train_vae`, `start` is a model folder. Returns the folder of the model."""
    module = Stage1Training(config, device(config.run.accelerator))
    if start is not None:
        load_weights(module.model, start, absent=("backbone.",))
        load_weights(module.model.vae, config.vae)  # the latents are this VAE's, whatever the start was trained with
    fit(module, resume, progress)
    folder = Path(config.run.out) / "model"
    module.model.save_pretrained(folder)
    return folder
