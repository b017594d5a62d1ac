"""The loop around every trained thing: Lightning, with checkpoints that survive a kill at any moment.

A trained thing is a `TrainingModule`. Its `step` makes batch number `global_step` and the loss; whatever is random in
it follows from the seed and that number alone, so a resumed run ends with the weights of one that was never stopped.
`fit` runs it as its `RunConfig` says, and leaves the averaged weights in it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path


def check_settings(config: Any, **bounds: tuple[float, float]) -> None:
    """Raise MotionGPT3Error if one of a configuration's numbers lies outside its (least, most)."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise MotionGPT3Error(f"{name} must be {least:g} to {most:g}, not {value}")


@dataclass(frozen=True)
class RunConfig:
    """How a training run is carried out."""

    out: Path
    """Folder of the run: checkpoints, metrics, the exported model."""
    steps: int = 10_000
    """Optimiser steps."""
    seed: int = 0
    """Decides initial weights and every batch."""
    learning_rate: float = 2e-4
    """Peak of the schedule: linear warm-up, then cosine to zero."""
    warmup: int = 500
    """Steps of the warm-up."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip: float = 1.0
    """Largest gradient norm; 1e9 leaves gradients as they are."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is validated and exported."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """Arithmetic of the networks."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    """Where to compute."""
    validate_every: int = 1000
    """Steps between validations."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints."""
    log_every: int = 50
    """Steps between lines of metrics.csv."""

    def __post_init__(self) -> None:
        check_settings(self, steps=(1, 10**9), seed=(0, 2**31 - 1), learning_rate=(0, 1e3), warmup=(0, 10**9))
        check_settings(self, weight_decay=(0, 1e3), clip=(1e-9, 1e9), ema=(0, 0.999999))  # clip 0 zeroes gradients
        check_settings(self, validate_every=(1, 10**9), checkpoint_minutes=(0, 1e6), log_every=(1, 10**9))


@dataclass(frozen=True)
class TrainingConfig:
    """What every run is told. A subclass's own fields come before those that are inherited by keyword."""

    run: RunConfig
    data: list[Path]
    """Packed files: the recorded clips first, then pools made from them."""


@dataclass(frozen=True)
class FeatureTrainingConfig(TrainingConfig):
    """What a run is told that learns from the features of clips."""

    _: KW_ONLY
    batch: int = 128
    """Clips per step."""
    crop: float = 0.5
    """How often a clip is cut to a random length."""
    pool_share: float = 0.4
    """Share of draws that go to the pools."""
    balance: float = 0.0
    """0 draws clips by their length, 1 draws actions alike."""

    def __post_init__(self) -> None:
        check_settings(self, batch=(1, 10**6), crop=(0, 1), pool_share=(0, 1), balance=(0, 10))


class EMA(pl.Callback):
    """Exponential moving average of the parameters that require gradients.

    Lightning's own average copies the whole module, frozen language model included, and averages all of it at every
    step. The average takes the place of the weights during validation and in what is exported.

    Args:
        decay: of the average; in the first steps it is (1 + step) / (10 + step), so that the start is forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self._loaded: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights themselves, or go on from a checkpoint's average."""
        for name, value in _trained(pl_module).items():
            self.average[name] = self._loaded[name].to(value) if name in self._loaded else value.clone()
        self._loaded = {}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move the average towards the weights."""
        step, trained = trainer.global_step, _trained(pl_module)
        update = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        update([self.average[name] for name in trained], list(trained.values()), step)

    def swap(self, module: pl.LightningModule) -> None:
        """Put the average in place of the weights and keep these, or the other way round."""
        for name, value in _trained(module).items():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name] = kept

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        self.swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the weights."""
        self.swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average, for the checkpoint."""
        return dict(self.average)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The average of a checkpoint; it is put on its device when training starts."""
        self._loaded = dict(state_dict)


def _trained(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: p.data for name, p in module.named_parameters() if p.requires_grad}


class TrainingModule(pl.LightningModule):
    """What all trained things share: a step, optimiser, schedule and the stop at a loss that is no number.

    A subclass has `step` and Lightning's `validation_step`.
    """

    def __init__(self, run: RunConfig) -> None:
        super().__init__()
        self.run = run
        self.seconds = 0.0
        """Of training; validation and checkpoints do not count."""
        self._last: tuple[Tensor, Callable[[], Iterable[str]]] | None = None
        torch.manual_seed(run.seed)

    def attention(self) -> AbstractContextManager[None]:
        """To run networks in: on a CPU the fused attention's backward pass is many times slower than plain products."""
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """The loss of batch number `global_step`, what else to log of it, and a function that names its clips.

        `seed` is for whatever is random on the device.
        """
        raise NotImplementedError

    def training_step(self, _: Any, index: int) -> Tensor:
        """One step: write what it measures, and stop the run if the loss of the step before was not finite.

        Looking back a step costs no wait for the device.
        """
        loss, terms, clips = self.step(self.run.seed * 7_000_003 + self.global_step)
        self.write(loss, terms)
        self.check()
        self._last = (loss.detach(), clips)
        return loss

    def write(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Log a step's loss and what else `step` gave."""
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)

    def check(self) -> None:
        """Raise MotionGPT3Error if the loss of the last finished step was not finite."""
        if self._last is not None and not torch.isfinite(self._last[0]):
            held = ", ".join(self._last[1]())
            raise MotionGPT3Error(f"the loss of step {self.global_step - 1} is not finite; the batch held {held}")

    def configure_optimizers(self) -> Any:
        """AdamW over what requires gradients; no weight decay on vectors."""
        run, warmup = self.run, max(self.run.warmup, 1)
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": run.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=run.learning_rate, betas=(0.9, 0.99), fused=True)
        rise = LinearLR(optimizer, 1e-3, 1.0, warmup)
        fall = CosineAnnealingLR(optimizer, max(run.steps - run.warmup, 1))
        schedule = SequentialLR(optimizer, [rise, fall], [warmup])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient norm; Lightning refuses to with fused optimisers, though bfloat16 needs no unscaling."""
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.run.clip)

    def train_dataloader(self) -> Iterable[int]:
        """An endless stream of nothing: `step` makes batch number `global_step` itself, on the device that trains."""
        return repeat(0)

    def val_dataloader(self) -> Iterable[int]:
        """One item: validation goes over its split by itself."""
        return [0]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout, too, is a function of seed and step alone."""
        torch.manual_seed(self.run.seed * 5_000_011 + self.global_step)
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the watch and write down what it shows."""
        self.seconds += time.perf_counter() - self._started
        self.log("seconds", self.seconds, batch_size=1)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """What a checkpoint holds: all but the frozen part of a language model (`model.backbone`)."""
        state, trained = super().state_dict(*args, **kwargs), _trained(self)
        return {name: v for name, v in state.items() if not name.startswith("model.backbone.") or name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """The inverse of `state_dict`; `on_load_checkpoint` has compared the names."""
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Never overwrite a good checkpoint with weights that a bad loss has spoilt."""
        self.check()
        checkpoint["watch"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of a run with other sizes."""
        self.seconds = checkpoint.get("watch", 0.0)
        states = self.state_dict(), checkpoint["state_dict"]
        ours, theirs = ({name: tensor.shape for name, tensor in state.items()} for state in states)
        if other := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
            raise MotionGPT3Error(f"the checkpoint is of a run with other sizes ({other[0]}); start without resuming")


Network = TypeVar("Network", bound=nn.Module)


class FeatureTraining(TrainingModule):
    """A module that learns from the features of clips.

    Attributes:
        bank: the training clips.
        held: the clips of the validation split.
    """

    def __init__(self, config: FeatureTrainingConfig, licenses: list[str] | None = None) -> None:
        super().__init__(config.run)
        self.packs = [PackedClips.open(path) for path in config.data]
        self.bank = ClipBank(self.packs, "train", licenses, config.pool_share, config.balance)
        self.held = ClipBank(self.packs[:1], "val", licenses)

    def with_statistics(self, network: Network) -> Network:
        """The network, with the mean and the deviation of the data's features in it."""
        network.get_buffer("feature_mean").copy_(torch.from_numpy(self.packs[0].mean.copy()))
        network.get_buffer("feature_std").copy_(torch.from_numpy(self.packs[0].std.copy()))
        return network


def mean_over_clips(parts: Iterable[tuple[int, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Means of losses over all clips, from each part's number of clips and means; a term counts where it occurs."""
    sums: dict[str, Any] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for count, terms in parts:
        for name, value in terms.items():
            sums[name] = sums[name] + value * count
            counts[name] += count
    return {name: total / counts[name] for name, total in sums.items()}


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written to a temporary name, synced and renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; MotionGPT3Error if it cannot be, and the one before it is whole."""
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
        except (RuntimeError, OSError) as error:  # torch's writer raises RuntimeError where the disk is full
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(
                f"cannot write {path} ({reason[:100]}): is the disk full? the last checkpoint is whole; "
                "go on from it with --resume"
            ) from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; MotionGPT3Error if it is damaged."""
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except (
            RuntimeError,
            OSError,
            EOFError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            UnpicklingError,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(f"{path} is damaged ({reason[:100]}); start without resuming") from None


def fit(module: TrainingModule, resume: bool = False, progress: bool = True) -> None:
    """Train a module as its RunConfig says; afterwards it holds the averaged weights.

    Args:
        module: what to train.
        resume: go on from the run's last checkpoint, with the result an uninterrupted run would have had.
        progress: show a progress bar.
    """
    run, folder = module.run, Path(module.run.out)
    last = folder / "checkpoints" / "last.ckpt"
    if resume and not last.is_file():
        raise MotionGPT3Error(f"nothing to resume: no {last}")
    folder.mkdir(parents=True, exist_ok=True)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    checkpoints = ModelCheckpoint(
        dirpath=last.parent,
        filename="last",
        train_time_interval=timedelta(minutes=run.checkpoint_minutes),
        save_top_k=1,
        enable_version_counter=False,
    )
    ema = EMA(run.ema)
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator=run.accelerator,
        devices=1,
        precision=run.precision,
        max_steps=run.steps,
        val_check_interval=min(run.validate_every, run.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=run.log_every,
        logger=_logger(folder, last if resume else None),
        callbacks=[checkpoints, ema, *([TQDMProgressBar(refresh_rate=20)] if progress else [])],
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, ckpt_path=os.fspath(last) if resume else None, weights_only=True)
    module.check()
    ema.swap(module)


def _logger(folder: Path, checkpoint: Path | None) -> CSVLogger:
    """Lightning's CSV logger, which by itself would delete the lines of the run that is resumed.

    Lines later than the checkpoint go: these steps are made, and written, once more.
    """
    path = folder / "metrics" / "metrics.csv"
    earlier = ""
    if checkpoint is not None and path.is_file():
        done = AtomicCheckpoints().load_checkpoint(checkpoint, "meta", weights_only=True)["global_step"]
        earlier = _lines_before(path.read_text(), done)
    logger = CSVLogger(folder, name="", version="metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = logger.experiment
    if earlier:
        path.write_text(earlier)
        writer.metrics_keys = earlier.splitlines()[0].split(",")
    return logger


def _lines_before(text: str, step: int) -> str:
    """The header of a metrics file and its whole lines of earlier steps; a kill may have cut the last line."""
    head, *lines = text.splitlines(keepends=True) or [""]
    at = head.strip().split(",").index("step") if "step" in head else -1
    kept = [line for line in lines if line.count(",") == head.count(",") and line.endswith("\n")]
    return head + "".join(line for line in kept if at < 0 or int(line.split(",")[at] or 0) < step)


def device(accelerator: str) -> torch.device:
    """Where a run's accelerator setting puts tensors."""
    return torch.device("cuda" if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available() else "cpu")
