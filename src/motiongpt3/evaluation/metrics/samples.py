"""The base of the metrics: what was measured of each sample, numbered, so that any split over processes agrees."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from motiongpt3.errors import MotionGPT3Error

_NAMED = 5
"""Samples left out that a warning names: enough to look them up, few enough for a line."""


class SampleMetric(Metric):
    """A metric that keeps some numbers of every sample until `compute`.

    A metric is an `update` that calls `_keep`, and `_scores`. Each sample comes with its index in the whole population.
    `compute` sorts by it, so the result is the same, to the last bit, however the samples were ordered, batched or
    dealt to processes. A sample that comes twice (samplers fill the last batch with repeats) counts once.

    A prediction with NaN or infinity is left out, counted in the result's `excluded` and named in a warning and, after
    `compute`, in the attribute `excluded`. A reference that is not finite is an error of the data and raises.

    Args:
        columns: what is kept of a sample; one tensor state each, with a row per sample.
        names: names of the population's samples for messages; the indices if None.
    """

    is_differentiable = False
    full_state_update = False

    excluded: tuple[str, ...]

    def __init__(self, columns: Sequence[str], names: Sequence[str] | None = None) -> None:
        super().__init__(dist_sync_fn=gather)
        self.names = None if names is None else tuple(names)
        self.columns = tuple(columns)
        self.excluded = ()
        for state in ("index", "rejected", *columns):
            self.add_state(state, [], dist_reduce_fx="cat")

    def compute(self) -> dict[str, Tensor]:
        """Scores as floating scalars, see the class; counts as whole ones, `samples` and `excluded` among them."""
        table = self._samples()
        counts = {"samples": torch.tensor(len(table["index"])), "excluded": torch.tensor(len(self.excluded))}
        return {**counts, **self._scores(table)}

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the metric says of the usable samples, as `_samples` returns them."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What to call the sample with this index."""
        return self.names[index] if self.names is not None and index < len(self.names) else str(index)

    def _keep(self, index: Tensor | Sequence[int], usable: Tensor, **columns: Tensor) -> None:
        """Keep a batch.

        Args:
            index: (B,) place of each sample in the population.
            usable: (B,) bool, false where the prediction is not finite.
            columns: (B, ...) each.

        Raises:
            MotionGPT3Error: sizes that do not fit, or a negative index.
        """
        at = torch.as_tensor(index).detach().cpu().long()
        sizes = {"index": len(at), **{key: len(value) for key, value in columns.items()}} if at.ndim == 1 else {}
        if set(sizes.values()) != {len(usable)}:
            raise MotionGPT3Error(f"index must be the {len(usable)} samples' places, not a tensor {tuple(at.shape)}")
        if (at < 0).any():
            raise MotionGPT3Error(f"the index of a sample is 0 or more, not {int(at.min())}")
        usable = usable.detach().cpu()
        device = self.device
        self._append("index", at[usable].to(device))
        self._append("rejected", at[~usable].to(device))
        for key, value in columns.items():
            self._append(key, value.detach()[usable.to(value.device)].to(device))

    def _append(self, state: str, value: Tensor) -> None:
        held = getattr(self, state)
        if isinstance(held, Tensor):  # A merge or a loaded checkpoint may leave one tensor.
            setattr(self, state, [held, value])
        else:
            held.append(value)

    def _samples(self) -> dict[str, Tensor]:
        """The usable samples in the order of their indices, on the CPU: "index" (N,) and each column (N, ...).

        Floating columns become float64. Warns of samples left out.

        Raises:
            MotionGPT3Error: two different samples have the same index.
        """
        index, order = torch.sort(self._cat("index").long(), stable=True)
        table = {"index": index}
        for key in self.columns:
            value = self._cat(key)
            value = value[order] if len(order) else value
            table[key] = value.double() if value.is_floating_point() else value
        again = torch.zeros(len(index), dtype=torch.bool)
        again[1:] = index[1:] == index[:-1]
        for key in self.columns:
            now, before = table[key][again], table[key][again.roll(-1)]
            same = torch.isclose(now.double(), before.double(), rtol=1e-3, atol=1e-4)
            same = same.unsqueeze(1).flatten(1).all(dim=1)
            if not same.all():
                raise MotionGPT3Error(
                    f"two different samples have the index {self.name(int(index[again][~same][0]))}; "
                    "number the samples over the whole population, not over a batch or a process"
                )
        table = {key: value[~again] for key, value in table.items()}
        rejected = self._cat("rejected").long().unique().tolist()
        self.excluded = tuple(self.name(one) for one in rejected)
        if rejected:
            shown = ", ".join(self.excluded[:_NAMED]) + (", …" if len(rejected) > _NAMED else "")
            self._warn(f"{len(rejected)} predictions with NaN or infinite values are left out: {shown}")
        return table

    def _cat(self, state: str) -> Tensor:
        held = getattr(self, state)
        if isinstance(held, Tensor):
            return held.cpu()
        return torch.cat([part.cpu() for part in held]) if held else torch.zeros(0)

    def _warn(self, message: str) -> None:
        warnings.warn(f"{type(self).__name__}: {message}", stacklevel=3)


def finite_rows(values: Tensor) -> Tensor:
    """(B, ...) -> (B,) bool: no NaN and no infinity in the sample."""
    return values.detach().isfinite().flatten(1).all(dim=1)


def check_references(usable: Tensor, index: Tensor | Sequence[int], what: str) -> None:
    """Raise MotionGPT3Error where a reference of a batch is not finite. `usable`: (B,) bool."""
    if not usable.all():
        at = torch.as_tensor(index).cpu()[~usable.cpu()].tolist()
        raise MotionGPT3Error(f"{what} of sample {at[0]} has NaN or infinite values ({len(at)} such in this batch)")


def gather(value: Tensor, group: Any = None) -> list[Tensor]:
    """All-gather of tensors whose first sizes differ, also where some process has no row and knows no shape.

    Args:
        value: (n, ...) of this process; n may be 0, and then the other sizes and the dtype do not matter.
        group: the processes; all of them if None.

    Returns:
        The tensor of each process, in the order of ranks.

    Raises:
        MotionGPT3Error: processes with rows disagree on the other sizes or the dtype.
    """
    parts: list[Tensor] = [value] * dist.get_world_size(group)
    dist.all_gather_object(parts, value.cpu(), group=group)
    filled = [part for part in parts if len(part)]
    kinds = {(str(part.dtype), *part.shape[1:]) for part in filled}
    if len(kinds) > 1:
        raise MotionGPT3Error(f"processes hold samples of different sizes or types: {sorted(kinds)}")
    return [(part if len(part) else (filled or parts)[0][:0]).to(value.device) for part in parts]
