"""Text and motion in one space: a small transformer beside a sentence encoder, trained to find each other.

In the manner of TMR (Petrovich et al., "TMR: Text-to-Motion Retrieval Using Contrastive 3D Human Motion Synthesis",
ICCV 2023), without its generator. `motiongpt3 train evaluator` makes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.checkpoints.folder import load_weights, parse_config, read_config, write_folder
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import frame_mask
from motiongpt3.motion.features import feature_size, feature_slices

KIND = "tmr"
"""What config.json calls the network's sizes."""
PACE = 32
"""Parts of motions that are encoded together."""


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
        for first in range(0, len(order), PACE):
            rows = order[first : first + PACE]
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
        config = {"format": 1, KIND: asdict(self.config), "sentences_sha256": sentences_sha256}
        write_folder(folder, config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path) -> TMR:
        """The network of a folder, in eval mode; raises MotionGPT3Error when there is none or it is damaged."""
        config = read_config(folder)
        if KIND not in config:
            raise MotionGPT3Error(f"{folder} is no evaluator; make one with `motiongpt3 train evaluator`")
        with torch.device("meta"):  # sizes that the file does not hold cost nothing
            network = cls(parse_config(TMRConfig, config[KIND]))
        load_weights(network, folder, assign=True)
        return network.float().eval().requires_grad_(False)
