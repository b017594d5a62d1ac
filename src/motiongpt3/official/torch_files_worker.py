"""The process that opens a torch file: `python torch_files_worker.py IN OUT`, started by `torch_files`.

It runs under limits on memory and file size, reads with torch's weights-only loader and nothing else, and writes the
plain tensors it finds to OUT as safetensors. What it has to say is one JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


OLDEST_TORCH = (2, 10)
"""The weights-only loaders of earlier versions had holes."""
SPARE_BYTES = 2**28
"""Bytes beyond three times the file that reading may take."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin: their magic number, pickled."""
PASSED_DTYPES = ("float64", "float32", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64")
"""Types of tensors that are passed on; whether they are right is for the reader to say."""
MAX_NAME, MAX_TENSORS, DEPTH = 300, 50_000, 3
"""Letters of a tensor's name, tensors of a file, dictionaries within dictionaries."""

SKIPPED = {
    "builtins": "bool bytes dict float int list str tuple",
    "numpy": "dtype",
    "numpy.core.multiarray": "scalar",
    "numpy._core.multiarray": "scalar",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode",
    "pathlib": "Path PosixPath WindowsPath",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "typing": "Any",
}
"""Settings that Lightning writes beside the weights. An empty object takes the place of each: nothing is imported."""
EMPTIED = (
    "collections.defaultdict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Dictionaries among them."""


class Nothing:
    """In place of an object of SKIPPED, whatever it is made of."""

    def __new__(cls, *_: object, **__: object) -> Nothing:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Forget it."""


class Emptied:
    """In place of a class of EMPTIED: its objects are plain dictionaries."""

    def __new__(cls, *_: object, **__: object) -> dict:  # type: ignore[misc]
        return {}


class Refused(Exception):
    """Why the file is not read, in one line."""


def main(source: str, target: str) -> dict[str, Any]:
    """Read `source`, write `target`. Returns what else the parent must know.

    Returns:
        `aliases`: name -> name of the tensor stored in its place; `left_out`: entries that hold no tensors of a model.
    """
    size = os.path.getsize(source)
    with limited_resources(size):
        zipped = check_container(source, size)

    import torch
    from safetensors.torch import save_file

    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < OLDEST_TORCH:
        raise Refused(f"reading torch files safely needs PyTorch 2.10 or newer, and this is {torch.__version__}")
    with limited_resources(size):
        content = unpickle(source, zipped)
        stored, aliases, left_out = plain_tensors(content, size)
        save_file(stored, target)
    return {"aliases": aliases, "left_out": left_out[:1000]}


def plain_tensors(content: Any, size: int) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Tensors, further names of them, and names of all else in what a file of `size` bytes holds."""
    if not isinstance(content, Mapping):
        raise Refused(f"it holds a {type(content).__name__}, not a dictionary of tensors")
    left_out: list[str] = []
    if isinstance(content.get("state_dict"), Mapping):
        left_out += [str(name)[:MAX_NAME] for name in content if name != "state_dict"]
        content = content["state_dict"]
    found = dict(named_tensors(content, "", left_out))
    if not found:
        raise Refused("there are no tensors in it")
    return *unshare(found, size), left_out


def check_container(source: str, size: int) -> bool:
    """Whether the file is a zip archive as torch writes them; the alternative is torch's format before 1.6."""
    with open(source, "rb") as file:
        head = file.read(len(LEGACY))
    if head == LEGACY:
        return False
    if not head.startswith(b"PK\x03\x04"):
        raise Refused("it is no file of torch.save (neither its zip archive nor the format before torch 1.6)")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, UnicodeError):
        raise Refused("it is cut short or damaged: its zip archive is not complete") from None
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise Refused("its zip archive is compressed, which torch.save never does")
        if entry.header_offset + entry.file_size > size:
            raise Refused("it is cut short or damaged: its zip archive is not complete")
    if sum(entry.file_size for entry in entries) > size:
        raise Refused("its zip archive holds more than the file, which torch.save never does")
    return True


@contextmanager
def limited_resources(size: int) -> Iterator[None]:
    """Three times the file and some slack to work with; no core dumps. Where the system knows no limits, none."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    room = 3 * size + SPARE_BYTES
    before = {}
    for kind, most in {resource.RLIMIT_AS: used + room, resource.RLIMIT_FSIZE: room, resource.RLIMIT_CORE: 0}.items():
        before[kind] = soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def unpickle(source: str, zipped: bool) -> Any:
    """What the file holds, by the weights-only loader; its tensors stay on disk where the format allows.

    Lightning's settings, which the loader does not know, become objects that do and hold nothing.
    """
    import torch

    known: list[Any] = [(Nothing, f"{module}.{name}") for module in SKIPPED for name in SKIPPED[module].split()]
    known += [(Emptied, name) for name in EMPTIED]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise
    except Exception as error:  # Whatever a hostile file makes the loader raise.
        text = str(error)
        if re.search("allocate memory|not enough memory", text):
            raise MemoryError from None
        unsafe = re.search(r"GLOBAL (\S+)", text)
        if unsafe or re.search("Can only (create|build)|call reduce|TorchScript|must be imported", text):
            what = f" ({unsafe[1][:80]})" if unsafe else ""
            raise Refused(
                f"it holds more than tensors and plain values{what}, and loading that could run code; "
                "save its state_dict alone where it was made"
            ) from None
        raise Refused(f"it is cut short or damaged: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """The last line of an error that says something, cut short; torch's advice to load unsafely is left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not re.search("weights_only|docs|file an issue", line)]
    return (lines[-1] if lines else type(error).__name__)[:120]


def named_tensors(content: Mapping, prefix: str, left_out: list[str], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a dictionary and of dictionaries in it; entries that are neither go to `left_out`."""
    from torch import Tensor

    if len(content) > MAX_TENSORS:
        raise Refused(f"it holds {len(content)} entries, and no model of ours has so many")
    for key, value in content.items():
        name = f"{prefix}{key}" if isinstance(key, str | int) else f"{prefix}{type(key).__name__}"
        if len(name) > MAX_NAME or not name.isprintable():
            raise Refused("it holds a tensor whose name is no name")
        if isinstance(value, Tensor):
            yield name, checked(name, value)
        elif isinstance(value, Mapping) and value and depth + 1 < DEPTH:
            yield from named_tensors(value, f"{name}.", left_out, depth + 1)
        else:
            left_out.append(name)


def checked(name: str, tensor: Tensor) -> Tensor:
    """The tensor's own numbers: dense, in memory, none twice."""
    tensor = tensor.detach()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.device.type != "cpu":
        raise Refused(f"{name} is not an ordinary tensor")
    if dtype not in PASSED_DTYPES:
        raise Refused(f"{name} holds {dtype}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"{name} claims shape {tuple(tensor.shape)}, more than the numbers stored for it")
    return tensor


def unshare(found: dict[str, Tensor], size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that own their memory, and the names that mean one of them again."""
    seen: dict[tuple, str] = {}
    storages: set[int] = set()
    stored, aliases, total = {}, {}, 0
    for name, tensor in found.items():
        view = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and view in seen:
            aliases[name] = seen[view]
            continue
        seen[view] = name
        storage = tensor.untyped_storage()
        total += tensor.numel() * tensor.element_size()
        if total > size:
            raise Refused("its tensors overlap and would fill more than the file")
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        stored[name] = tensor if whole and storage.data_ptr() not in storages else tensor.contiguous().clone()
        storages.add(storage.data_ptr())
    return stored, aliases


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1], sys.argv[2])
    except Refused as refusal:
        answer = {"error": str(refusal)}
    except MemoryError:
        answer = {"error": "reading it takes more memory than three times its size"}
    except RecursionError:
        answer = {"error": "it is damaged: nested too deeply"}
    except (OSError, RuntimeError) as failure:
        answer = {"error": f"reading it failed: {reason(failure)}"}
    sys.stdout.write(json.dumps(answer))
