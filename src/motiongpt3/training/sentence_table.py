"""Vectors of all sentences of a run, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.sentences import load_sentences
from motiongpt3.files import atomic_path


class SentenceTable(nn.Module):
    """Sentences -> their vectors, without the encoder.

    Args:
        texts: all sentences that will be asked for.
        name: of the sentence encoder.
        file: where the vectors are kept, as float16; made anew where it holds other sentences.
    """

    vectors: Tensor

    def __init__(self, texts: Sequence[str], name: str, file: Path) -> None:
        super().__init__()
        unique = sorted(set(texts))
        self._rows = {text: row for row, text in enumerate(unique)}
        key = hashlib.sha256(json.dumps([name, unique]).encode()).hexdigest()
        vectors, self.sha256 = _read(file, key)
        if vectors is None:
            encoder = load_sentences(name)
            vectors, self.sha256 = encoder(unique).half(), encoder.sha256
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MotionGPT3Error(f"cannot write {file.parent}: {error.strerror}") from None
            with atomic_path(file) as temporary:
                save_file({"vectors": vectors}, temporary, metadata={"texts": key, "encoder": self.sha256})
        self.register_buffer("vectors", vectors, persistent=False)

    @property
    def channels(self) -> int:
        """S, of a vector."""
        return self.vectors.shape[1]

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Sentences -> (N, S) float32."""
        rows = torch.tensor([self._rows[text] for text in texts], dtype=torch.long, device=self.vectors.device)
        return self.vectors[rows].float()


def _read(file: Path, key: str) -> tuple[Tensor | None, str]:
    """The vectors in a file and the hash of their encoder; None if it is missing, damaged or of other sentences."""
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata() or {}
            return (stored.get_tensor("vectors"), about["encoder"]) if about.get("texts") == key else (None, "")
    except (OSError, SafetensorError, KeyError):
        return None, ""
