"""Torch files that a test makes: whole, with a bomb, or spoilt."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from motiongpt3.official.torch_files_worker import Refused, main


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["BOMB"],))


def inner_refusal(path: Path) -> str:
    """Why the worker refuses a file, asked in this process, which takes less time."""
    target = path.with_suffix(".out")
    with pytest.raises(Refused) as caught:
        main(str(path), str(target))
    assert not target.exists()
    return one_line(str(caught.value))


def one_line(message: str) -> str:
    assert "\n" not in message
    assert len(message) < 400
    return message


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def rezipped(source: Path, target: Path, method: int = zipfile.ZIP_STORED, change: Any = None) -> Path:
    """The archive again: compressed, or with the bytes of entries changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(entry.filename, data) if change else data)
    return target
