"""Parts of a published checkpoint: which tensors are there, which are ours, and what must be true of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types that become float32 without loss."""


@dataclass(frozen=True)
class Converted:
    """A part of a checkpoint under our names; `checkpoints.folder.write_folder` writes it."""

    config: dict[str, Any]
    """config.json."""
    tensors: dict[str, Tensor]
    """model.safetensors: float32, statistics included."""
    mapped: dict[str, str]
    """Name in the checkpoint -> name of ours."""
    ignored: list[str]
    """Names in the checkpoint that belong to other parts."""


@dataclass(frozen=True)
class Part:
    """The tensors of one part of a checkpoint, named as if there were nothing else in it."""

    tensors: Mapping[str, Tensor]
    """All of the checkpoint."""
    names: dict[str, str]
    """Name within the part -> name in the checkpoint."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Part:
        """What begins with one of `prefixes`, which is replaced by its value."""
        names = {}
        for name in tensors:
            prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
            if prefix is not None:
                names[prefixes[prefix] + name.removeprefix(prefix)] = name
        return cls(tensors, names)

    def size(self, name: str, dims: int, axis: int) -> int:
        """One size of a tensor that must be there."""
        shape = self.get(name).shape
        if len(shape) != dims:
            raise MotionGPT3Error(f"this checkpoint does not fit: {self.names[name]} has shape {tuple(shape)}")
        return shape[axis]

    def get(self, name: str) -> Tensor:
        """A tensor that must be there."""
        if name not in self.names:
            raise MotionGPT3Error(f"this checkpoint does not fit: {name} is missing")
        return self.tensors[self.names[name]]

    def numbers(self, name: str) -> Tensor:
        """A tensor as float32; it must be there, hold floating numbers of 32 bits or fewer, and be finite."""
        tensor, full = self.get(name), self.names[name]
        if tensor.dtype not in DTYPES:
            raise MotionGPT3Error(f"this checkpoint does not fit: {full} holds {tensor.dtype}, not float32")
        if not torch.isfinite(tensor).all():
            raise MotionGPT3Error(f"this checkpoint is damaged: {full} holds values that are not finite")
        return tensor.float()

    def unlike(self, name: str, shape: tuple[int, ...]) -> MotionGPT3Error:
        """What to raise for a tensor that should become one of `shape`."""
        shapes = f"{tuple(self.get(name).shape)}, which is {tuple(shape)} in ours"
        return MotionGPT3Error(f"this checkpoint does not fit: {self.names[name]} has shape {shapes}")

    def unexpected(self, name: str) -> MotionGPT3Error:
        """What to raise for a tensor that has no place."""
        return MotionGPT3Error(f"this checkpoint does not fit: unexpected tensor {self.names[name]}")

    def collect(
        self,
        make: Callable[[], nn.Module],
        theirs: Callable[[str], str],
        given: Mapping[str, Tensor],
        form: Callable[[str, Tensor], Tensor] = lambda _, tensor: tensor,
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The part as the state dict of the module that `make` makes.

        Args:
            make: makes the module; called where tensors have no memory.
            theirs: our name -> the name within the part.
            given: tensors that the part lacks, under our names.
            form: our name and the part's tensor -> the tensor as ours has it.

        Returns:
            Tensors under our names, and what was mapped: name in the checkpoint -> our name, or our names.

        Raises:
            MotionGPT3Error: a tensor is missing, misshapen, of a wrong type, not finite, or has no place.
        """
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in make().state_dict().items() if name not in given}
        found = dict(given)
        mapped: dict[str, str] = {}
        for ours, shape in wanted.items():
            name = theirs(ours)
            tensor = form(ours, self.numbers(name))
            if tensor.shape != shape:
                raise self.unlike(name, shape)
            found[ours] = tensor
            full = self.names[name]
            mapped[full] = f"{mapped[full]}, {ours}" if full in mapped else ours
        for name, full in self.names.items():
            if full not in mapped:
                raise self.unexpected(name)
        return found, mapped


def rename(name: str, table: Mapping[str, str]) -> str:
    """The name with a beginning that is in the table replaced."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
