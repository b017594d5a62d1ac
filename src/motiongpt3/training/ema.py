"""Averaged weights of what trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


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
