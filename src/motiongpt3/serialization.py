"""Writing files and folders so that a reader never sees half of one, and models as folders.

A model folder holds config.json and model.safetensors; nothing in it is ever unpickled. Whatever is read is checked
against what the code expects, and every fault is one line.
"""

from __future__ import annotations

import glob
import json
import math
import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.untrusted import load_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CARD = "README.md"
"""The model card beside them; the licence of the weights is in its YAML header."""
MAX_CONFIG_BYTES = 1_000_000
"""Far more than any configuration needs; a larger file is none."""
Config = TypeVar("Config")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; on success it is synced and renamed to `path`.

    On any error the temporary file is removed and `path` is as it was. Raises MotionGPT3Error when the folder is
    missing or cannot be written.
    """
    target = Path(path)
    try:
        prefix = _clear_leftovers(target, target.suffix)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {target}: {error.strerror or error}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _clear_leftovers(target: Path, suffix: str = "", alone: bool = False) -> str:
    """Remove what killed processes of this machine have left beside `target`; returns what this one's names begin with.

    The name of a temporary file tells the machine and the process that writes it. With `alone`, MotionGPT3Error while
    another process is writing the same.
    """
    common = f".{target.stem[:40]}-{zlib.crc32(platform.node().encode()):08x}-"
    for found in target.parent.glob(f"{glob.escape(common)}*{glob.escape(suffix)}") if os.name == "posix" else ():
        number = found.name[len(common) :].partition("-")[0]
        if not number.isdecimal() or int(number) == os.getpid():
            continue
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, OverflowError):
            shutil.rmtree(found, ignore_errors=True) if found.is_dir() else found.unlink(missing_ok=True)
        except PermissionError:
            pass  # another user's, and alive
        else:
            if alone:
                raise MotionGPT3Error(f"{target} is being written by another process ({number}); wait until it ends")
    return f"{common}{os.getpid()}-"


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder that becomes `path` on success; what was there is put aside first and put back if that fails.

    On any error `path` is as it was. Raises MotionGPT3Error when it cannot be written, or another process is at it.
    """
    target = Path(path).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = _clear_leftovers(target, alone=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as work:
            made, old = Path(work) / "made", Path(work) / "old"
            made.mkdir()
            yield made
            if target.exists():
                target.rename(old)
            try:
                made.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {path}: {error.strerror or error}") from None


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
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise MotionGPT3Error(f"{path} is damaged: it is far too large")
        config = load_json(path.read_bytes())
    except FileNotFoundError:
        raise MotionGPT3Error(f"{folder} is no model folder: it has no {CONFIG}") from None
    except MotionGPT3Error:
        raise
    except (OSError, ValueError) as error:
        raise MotionGPT3Error(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise MotionGPT3Error(f"{path} is damaged: it holds no JSON object")
    return config


def parse_config(kind: type[Config], values: Any) -> Config:
    """A dataclass from a JSON object, nested ones too; what the object lacks keeps its default.

    Raises:
        MotionGPT3Error: an unknown name, a value of another kind, a whole number outside 1 to 100,000, a dropout
            outside [0, 1).
    """
    if not isinstance(values, dict):
        raise MotionGPT3Error(f"this model's configuration is not one of ours: no {kind.__name__} in it")
    hints = get_type_hints(kind)
    parsed = {}
    for name, value in values.items():
        if name not in hints:
            raise MotionGPT3Error(f"this model's configuration is not one of ours: unknown setting {name[:40]!r}")
        if is_dataclass(hints[name]):
            value = parse_config(hints[name], value)
        elif not _fits(value, hints[name]) or (name.endswith("dropout") and not 0 <= value < 1):
            raise MotionGPT3Error(f"this model's configuration is not one of ours: {name} is {str(value)[:40]!r}")
        parsed[name] = value
    if missing := [f.name for f in fields(kind) if is_dataclass(hints[f.name]) and f.name not in parsed]:  # type: ignore[arg-type]
        raise MotionGPT3Error(f"this model's configuration is not one of ours: {missing[0]} is missing")
    return kind(**parsed)


def _fits(value: Any, hint: Any, least: int = 1) -> bool:
    if hint is int:
        return type(value) is int and least <= value <= 100_000
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if get_origin(hint) is Literal:
        return type(value) is str and value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option, 0) for option in get_args(hint))
    return isinstance(value, hint)


def _finite(tensor: Tensor, kind: torch.dtype) -> bool:
    """Whether a tensor holds finite numbers as `kind`; one sum and two bounds, where isfinite writes four copies."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    low, high = (tensor if tensor.element_size() > 1 else tensor.to(kind)).aminmax()  # NaN if there is one
    return bool(torch.isfinite(torch.stack([low, high]).to(kind)).all())


def load_weights(
    module: nn.Module, folder: str | Path, prefix: str = "", absent: tuple[str, ...] = (), assign: bool = False
) -> None:
    """Fill a module from a model folder; every tensor must be there with its shape and be finite.

    Args:
        module: what to fill.
        folder: the model folder.
        prefix: take only tensors whose name begins so, without the prefix.
        absent: names that may be missing begin with one of these.
        assign: let the stored tensors take the place of the module's, in their own type; for one on the meta device.

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
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise MotionGPT3Error(f"{path} does not fit this model: {name} holds {tensor.dtype}")
        if not _finite(tensor, wanted[name].dtype):
            raise MotionGPT3Error(f"{path} is damaged: {name} holds values that are not finite")
    missing = [name for name in wanted if name not in tensors and not name.startswith(absent or ("\0",))]
    if missing:
        raise MotionGPT3Error(f"{path} does not fit this model: {missing[0]} is missing")
    module.load_state_dict(tensors, strict=False, assign=assign)
