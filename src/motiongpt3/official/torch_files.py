"""Reading other people's torch files: only plain tensors come out, and no code in the file runs.

The file is opened by a process of its own (`torch_files_worker`), under limits on memory and time, with torch's
weights-only loader and no second attempt. What it finds comes back as safetensors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error

TIMEOUT = 900
"""How long the process may take."""


@dataclass(frozen=True)
class TorchFile:
    """What a torch file holds."""

    tensors: dict[str, Tensor]
    """By name; those of dictionaries in dictionaries as `outer.inner`. Tied names share one tensor."""
    left_out: list[str]
    """Names of entries that are no tensors, and of everything beside a `state_dict`."""


@contextmanager
def open_torch_file(path: str | Path) -> Iterator[TorchFile]:
    """The tensors of a Lightning checkpoint or of any dictionary that `torch.save` wrote.

    Of a checkpoint with a `state_dict` only that is read. The tensors are on disk until they are used, and must not be
    used after the block.

    Args:
        path: the file: the zip archive of torch since 1.6, or the format before it.

    Raises:
        MotionGPT3Error: it cannot be read, is damaged, holds anything but tensors and plain values, or takes more
            memory than three times its size.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    with tempfile.TemporaryDirectory(prefix="motiongpt3-") as folder:
        target = Path(folder) / "tensors.safetensors"
        answer = _ask_worker(path, target)
        if "error" in answer:
            raise MotionGPT3Error(f"{path.name} is refused: {answer['error']}")
        try:
            tensors = load_file(target)
        except (OSError, SafetensorError) as error:
            raise MotionGPT3Error(f"{path.name} is refused: {str(error).splitlines()[0][:120]}") from None
        tensors |= {name: tensors[same] for name, same in answer["aliases"].items()}
        yield TorchFile(tensors, answer["left_out"])


def _ask_worker(source: Path, target: Path) -> dict:
    """The worker's answer; an error in its place if it died."""
    worker = Path(__file__).with_name("torch_files_worker.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCH_FORCE_")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", str(worker), str(source.resolve()), str(target)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"reading it takes longer than {TIMEOUT // 60} minutes"}
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if done.returncode != 0 or not isinstance(answer, dict):
        return {"error": f"the process that reads it died (exit code {done.returncode}), for lack of memory perhaps"}
    return answer
