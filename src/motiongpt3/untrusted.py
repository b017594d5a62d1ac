"""Bounded reading of files that nobody vouches for: nothing is unpickled, nothing allocated before it is checked.

What is wrong with a file is one line that names it (MotionGPT3Error). numpy's own reader takes whatever size a header
declares and stops in a dozen ways, so headers are read here and the rest is left to numpy.
"""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.lib import format as npy
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error

MAX_ARRAY_BYTES = 2**29
"""Half a gigabyte, counted as float64, which all numbers become: 200,000 frames of 22 joints are a fifth of it."""
MAX_DIGITS = 40
"""Of a whole number: of 64 bits it has 20, and with more than 308 it is no float."""
MAX_NPY_HEADER = 10_000
"""Bytes of the header of an array: numpy writes 118."""
MAX_NODES = 100_000
"""Values and keys of a YAML text: a configuration has a hundred, the largest table of ours some thousands."""


def read_bytes(path: Path, limit: int, refusal: str) -> bytes:
    """A file's bytes; raises MotionGPT3Error, `refusal` after the name, when there are more than `limit`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > limit:
        raise MotionGPT3Error(f"{path.name} {refusal}")
    return data


def read_text(path: Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes; raises MotionGPT3Error when it is larger or no text."""
    data = read_bytes(path, limit, f"is larger than {limit // 2**20} MB: too long for one motion")
    if b"\0" in data[:4096]:
        raise MotionGPT3Error(f"{path.name} is not a text file")
    return data.decode("utf-8", errors="replace")


def load_json(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is damaged or no UTF-8, is too deep, or has NaN, an infinity (1e999 is one) or a whole number of
            more than MAX_DIGITS.
    """

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{digits[:20]} is no number that can be written")
        return value

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"{digits[:20]}… is no number that is expected")
        return int(digits)

    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(text, parse_constant=number, parse_float=number, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_value(data: bytes | str, name: str) -> Any:
    """The value of a JSON text; raises MotionGPT3Error, which names the file, where `load_json` raises ValueError."""
    try:
        return load_json(data)
    except ValueError as error:
        raise MotionGPT3Error(f"{name} is damaged: its JSON cannot be read: {str(error)[:80]}") from None


def json_object(data: bytes | str, name: str) -> dict[str, Any]:
    """The object of a JSON text; raises MotionGPT3Error when it is another value or `json_value` refuses it."""
    found = json_value(data, name)
    if not isinstance(found, dict):
        raise MotionGPT3Error(f"{name} is damaged: its JSON is no object")
    return found


class _Yaml(yaml.SafeLoader):
    """A safe loader without aliases, through which a kilobyte can stand for gigabytes, and without dates."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or self.check_event(yaml.AliasEvent):
            many = f"more than {MAX_NODES:,} values" if self.nodes > MAX_NODES else "an alias (*name)"
            raise yaml.YAMLError(f"it has {many}, which no file of this kind needs")
        return super().compose_node(parent, index)


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str, name: str) -> Any:
    """The value of a YAML text, dates as text; MotionGPT3Error when it is damaged, large, deep or has aliases."""
    try:
        return yaml.load(text, _Yaml)
    except RecursionError:
        reason = "it is nested too deeply"
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
    raise MotionGPT3Error(f"{name} is no YAML that can be read: {reason}")


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file. Raises MotionGPT3Error when it is damaged, too large or holds objects."""
    try:
        with path.open("rb") as file:
            return _array(file, path.name)
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None


class Npz:
    """A .npz file, opened with care; a context manager.

    Raises:
        MotionGPT3Error: it is no zip archive or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, OSError, ValueError) as error:
            raise MotionGPT3Error(f"{path.name} is not a complete npz file: {str(error)[:100]}") from None
        self.keys = {entry.removesuffix(".npy") for entry in self._zip.namelist()}

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def array(self, key: str) -> NDArray[Any]:
        """The array stored as `key`; MotionGPT3Error when it is missing, damaged, too large or holds objects."""
        where = f"{self.name}, {key}"
        try:
            with self._zip.open(f"{key}.npy") as file:
                return _array(file, where)
        except KeyError:
            raise MotionGPT3Error(f"{self.name} has no array {key!r}") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            UnicodeDecodeError,
            OSError,
            EOFError,
            RuntimeError,
        ) as error:
            raise MotionGPT3Error(f"{where}: the file is damaged: {str(error)[:100]}") from None

    def numbers(self, key: str) -> NDArray[np.float64]:
        """The array stored as `key` as float64; MotionGPT3Error when it holds anything but finite numbers."""
        return finite(self.array(key), f"{self.name}, {key}")

    def number(self, key: str) -> float:
        """The single number stored as `key`."""
        found = self.numbers(key)
        if found.size != 1:
            raise MotionGPT3Error(f"{self.name}: {key} must be one number, not an array of shape {found.shape}")
        return float(found.reshape(()))

    def text(self, key: str, limit: int = 10_000) -> str | None:
        """The text stored as `key`, cut at `limit` characters, or None if there is none."""
        if key not in self:
            return None
        found = self.array(key)
        if found.size != 1 or found.dtype.kind not in "US":
            raise MotionGPT3Error(f"{self.name}: {key} must be one text")
        item = found.reshape(()).item()
        text = item.decode("utf-8", errors="replace") if isinstance(item, bytes) else str(item)
        return text[:limit] or None


def finite(array: NDArray[Any], where: str) -> NDArray[np.float64]:
    """The array as float64; MotionGPT3Error unless all of it are finite numbers."""
    if array.dtype.kind not in "fiu":
        raise MotionGPT3Error(f"{where} holds {array.dtype}, not numbers")
    if not np.isfinite(array).all():
        raise MotionGPT3Error(f"{where} contains NaN or infinite values")
    return array.astype(np.float64)


_IF_TRUSTED = " If you trust the file: python -c \"import numpy as np; d = np.load('{}', allow_pickle=True)"
_ONE_OF_RESULTS = (
    f"{_IF_TRUSTED}.item(); np.save('motion.npy', d['motion'][0][..., :d['lengths'][0]])\"",
    f"{_IF_TRUSTED}; np.save('motion.npy', d[0])\"",
)
"""How to take the first motion out of a pickled dictionary, as MDM's results are, or out of a pickled list."""


def _array(file: IO[bytes], where: str) -> NDArray[Any]:
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        length = file.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > MAX_NPY_HEADER:  # numpy takes the memory before it looks
            raise ValueError(f"its header has {size:,} bytes")
        shape, fortran, dtype = header(io.BytesIO(length + file.read(size)), max_header_size=MAX_NPY_HEADER)
    except (ValueError, TypeError, EOFError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise MotionGPT3Error(f"{where}: not a complete numpy array: {reason}") from None
    if dtype.hasobject:
        raise MotionGPT3Error(
            f"{where} holds Python objects, which are refused because they can run code; save plain arrays of numbers."
            + ("" if "," in where else _ONE_OF_RESULTS[min(len(shape), 1)].format(where))
        )
    counts = all(type(n) is int and n >= 0 for n in shape)
    wide = max(dtype.itemsize, 8)  # as float64, which numbers become
    if not counts or len(shape) > 8 or dtype.kind not in "biufUS" or not dtype.itemsize:
        raise MotionGPT3Error(f"{where} declares {dtype.str} of shape {str(shape)[:80]}, which no motion has")
    if math.prod(shape) * wide > MAX_ARRAY_BYTES:
        raise MotionGPT3Error(
            f"{where} declares {math.prod(shape):,} values; more than {MAX_ARRAY_BYTES // wide:,} are refused"
        )
    size = math.prod(shape) * dtype.itemsize
    data = file.read(size)
    if len(data) < size:
        raise MotionGPT3Error(f"{where} is cut short: {len(data)} of {size} bytes are there")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
