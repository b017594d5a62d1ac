"""What a number was made with: hashes of model and clips, and versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from motiongpt3 import __version__
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import CONFIG, WEIGHTS, read_config

LIBRARIES = ("torch", "numpy", "transformers", "tokenizers", "diffusers", "torchmetrics")
"""Whose versions may change a number."""


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that compute."""
    found = {"motiongpt3": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_provenance(model: str | None) -> dict[str, Any]:
    """A model's name, stage and hash: sha256 over config.json and model.safetensors.

    Args:
        model: a folder, a hub id, or None for the model of this package.

    Raises:
        MotionGPT3Error: there is none.
    """
    from motiongpt3.models.motiongpt3 import EMBEDDED, download

    folder = EMBEDDED if model is None else Path(model)
    if model is not None and not folder.is_dir():
        folder = download(model)
    return {
        "name": "mini" if model is None else model,
        "stage": read_config(folder).get("stage", 1),
        "sha256": files_hash([folder / CONFIG, folder / WEIGHTS]),
    }


def files_hash(files: Iterable[Path]) -> str:
    """sha256 of files, one after the other; MotionGPT3Error if one cannot be read."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)  # goes on with the same one
        except OSError as error:
            raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def clips_provenance(pack: PackedClips, split: str, rows: Iterable[int]) -> dict[str, Any]:
    """A split's name, its clips that count, and their hash: sha256 over ids, captions, labels and joints."""
    digest = hashlib.sha256()
    clips = frames = 0
    for row in sorted(rows, key=lambda row: pack.clips[row].id):
        clip = pack.clips[row]
        words = [clip.id, clip.frames, clip.captions, clip.crop_safe, clip.short, clip.label]
        digest.update(json.dumps(words).encode())
        digest.update(pack.clip_joints(row).tobytes())
        clips, frames = clips + 1, frames + clip.frames
    return {"name": split, "clips": clips, "frames": frames, "sha256": digest.hexdigest()}


def made_with(
    model: str | None, pack: PackedClips | None = None, split: str = "", rows: Iterable[int] = ()
) -> dict[str, Any]:
    """What the JSON of an evaluation without a protocol says of its making: `model`, `split` if any, `versions`.

    Args:
        model: see `model_provenance`.
        pack, split, rows: see `clips_provenance`.
    """
    clips = {} if pack is None else {"split": clips_provenance(pack, split, rows)}
    return {"model": model_provenance(model), **clips, "versions": versions()}
