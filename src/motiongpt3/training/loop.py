"""The training loop around every trained thing: Lightning, with checkpoints that survive a kill at any moment."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path

# Averaged weights of what trains.


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
        self.stored: dict[str, Tensor] = {}

    def _trained(self, module: pl.LightningModule) -> dict[str, Tensor]:
        return {name: p.data for name, p in module.named_parameters() if p.requires_grad}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights themselves, or go on from a checkpoint's average."""
        trained = self._trained(pl_module)
        for name, value in trained.items():
            self.average[name] = self.stored[name].to(value) if name in self.stored else value.clone()
        self.stored = {}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move the average towards the weights."""
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        update = get_ema_multi_avg_fn(decay)
        trained = self._trained(pl_module)
        update([self.average[name] for name in trained], list(trained.values()), step)

    @contextmanager
    def applied(self, module: pl.LightningModule) -> Iterator[None]:
        """The average in place of the weights."""
        trained = self._trained(module)
        kept = {name: value.clone() for name, value in trained.items()}
        for name, value in trained.items():
            value.copy_(self.average[name])
        try:
            yield
        finally:
            for name, value in trained.items():
                value.copy_(kept[name])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        self._context = self.applied(pl_module)
        self._context.__enter__()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the weights."""
        self._context.__exit__(None, None, None)

    def state_dict(self) -> dict[str, Any]:
        """The average, for the checkpoint."""
        return dict(self.average)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The average of a checkpoint; it is put on its device when training starts."""
        self.stored = dict(state_dict)


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
        check_settings(
            self,
            steps=(1, 10**9),
            seed=(0, 2**31 - 1),
            learning_rate=(0, 1e3),
            warmup=(0, 10**9),
            weight_decay=(0, 1e3),
            clip=(1e-9, 1e9),  # 0 would make every gradient 0
            ema=(0, 0.999999),
            validate_every=(1, 10**9),
            checkpoint_minutes=(0, 1e6),
            log_every=(1, 10**9),
        )


def check_settings(config: Any, **bounds: tuple[float, float]) -> None:
    """Raise MotionGPT3Error if one of a configuration's numbers lies outside its (least, most)."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise MotionGPT3Error(f"{name} must be {least:g} to {most:g}, not {value}")


class Steps(IterableDataset):
    """An endless stream of nothing: the module makes batch number `global_step` itself, on the device that trains."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 0


class TrainingModule(pl.LightningModule):
    """What the three trained things share: optimiser, schedule and the stop at a loss that is no number."""

    def __init__(self, run: RunConfig) -> None:
        super().__init__()
        self.run = run
        self.seconds = 0.0
        """Of training; validation and checkpoints do not count."""
        self._last: tuple[Tensor, Any] | None = None

    @property
    def kernel(self) -> Literal["auto", "math"]:
        """The attention kernel: on a CPU the fused backward pass is many times slower than plain matrix products."""
        return "math" if self.device.type == "cpu" else "auto"

    def configure_optimizers(self) -> Any:
        """AdamW over what requires gradients; no weight decay on vectors."""
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.run.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.run.learning_rate, betas=(0.9, 0.99), fused=True)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, max(self.run.warmup, 1))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.run.steps - self.run.warmup, 1))
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [max(self.run.warmup, 1)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient norm; Lightning refuses to with fused optimisers, though bfloat16 needs no unscaling."""
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.run.clip)

    def train_dataloader(self) -> DataLoader:
        """See `Steps`."""
        return DataLoader(Steps(), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """One item: validation goes over its split by itself."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    def guard(self, loss: Tensor, names: Any) -> Tensor:
        """Stop when the previous step's loss was not finite, naming its clips; looking back a step costs no wait."""
        self.check()
        self._last = (loss.detach(), names)
        return loss

    def check(self) -> None:
        """Raise MotionGPT3Error if the loss of the last finished step was not finite."""
        if self._last is not None and not torch.isfinite(self._last[0]):
            step = self.global_step - 1
            raise MotionGPT3Error(f"the loss of step {step} is not finite; the batch held {self._last[1]()}")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout, too, is a function of seed and step alone."""
        torch.manual_seed(self.run.seed * 5_000_011 + self.global_step)
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the watch and write down what it shows."""
        self.seconds += time.perf_counter() - self._started
        self.log("seconds", self.seconds, batch_size=1)

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


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written to a temporary name, synced and renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; MotionGPT3Error if it is damaged."""
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except (RuntimeError, OSError, EOFError, KeyError, UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(f"{path} is damaged ({reason[:100]}); start without resuming") from None


def fit(module: TrainingModule, resume: bool = False, progress: bool = True) -> None:
    """Train a module as its RunConfig says; afterwards it holds the averaged weights.

    Args:
        module: what to train.
        resume: go on from the run's last checkpoint, with the result an uninterrupted run would have had.
        progress: show a progress bar.
    """
    run = module.run
    folder = Path(run.out)
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
    callbacks: list[pl.Callback] = [checkpoints, ema]
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=20))
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
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, ckpt_path=os.fspath(last) if resume else None, weights_only=True)
    module.check()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(ema.average[name])


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
