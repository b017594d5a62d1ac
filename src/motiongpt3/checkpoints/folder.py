"""A model as a folder: config.json and model.safetensors. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_folder(
    folder: str | Path, config: dict[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write a model's configuration and tensors; floating tensors are stored as `dtype` if given."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {folder}: {error.strerror}") from None
    stored = {
        name: tensor.detach().to("cpu", dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(stored, temporary, metadata={"format": "pt"})
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a model folder."""
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise MotionGPT3Error(f"{folder} is no model folder: it has no {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise MotionGPT3Error(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise MotionGPT3Error(f"{path} is damaged: it holds no JSON object")
    return config


def load_weights(module: nn.Module, folder: str | Path, prefix: str = "", absent: tuple[str, ...] = ()) -> None:
    """Fill a module from a model folder; every tensor must be there with its shape and be finite.

    Args:
        module: what to fill.
        folder: the model folder.
        prefix: take only tensors whose name begins so, without the prefix.
        absent: names that may be missing begin with one of these.

    Raises:
        MotionGPT3Error: the file is missing or damaged, or a tensor is missing, unexpected, misshapen or not finite.
    """
    path = Path(folder) / WEIGHTS
    try:
        stored = load_file(path)
    except FileNotFoundError:
        raise MotionGPT3Error(f"{folder} is no model folder: it has no {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        raise MotionGPT3Error(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    tensors = {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
    wanted = module.state_dict()
    for name, tensor in tensors.items():
        if name not in wanted:
            raise MotionGPT3Error(f"{path} does not fit this model: unexpected tensor {name}")
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
            raise MotionGPT3Error(f"{path} does not fit this model: {name} has shape {shapes}")
        if not torch.isfinite(tensor).all():
            raise MotionGPT3Error(f"{path} is damaged: {name} holds values that are not finite")
    missing = [name for name in wanted if name not in tensors and not name.startswith(absent or ("\0",))]
    if missing:
        raise MotionGPT3Error(f"{path} does not fit this model: {missing[0]} is missing")
    module.load_state_dict(tensors, strict=False)
