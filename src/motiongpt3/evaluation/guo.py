"""The text-motion evaluator of Guo et al. 2022, "Generating Diverse and Natural 3D Human Motions from Text".

Three networks that map captions and motions into one space: R-precision, MM-Dist, FID and diversity on HumanML3D are
distances in it. `motiongpt3 convert evaluator` makes it from the published weights (`finest.tar`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from motiongpt3.checkpoints.folder import load_weights, parse_config, read_config, write_folder
from motiongpt3.errors import MotionGPT3Error

KIND = "guo_evaluator"
"""What config.json calls the evaluator's sizes."""
UNIT = 4
"""Frames of one movement."""
CONTACTS = 4
"""Channels at the end of a frame's features, the foot contacts, that the networks do not see."""


@dataclass(frozen=True)
class GuoConfig:
    """Sizes of the evaluator; the defaults are those of the published one for HumanML3D."""

    features: int = 263
    """Channels of one frame, foot contacts included."""
    word_channels: int = 300
    """Channels of a word vector."""
    word_classes: int = 15
    """Classes of words: parts of speech and a few of meaning."""
    text_width: int = 512
    """Hidden channels of the text encoder, each direction."""
    movement_width: int = 512
    """Hidden channels of the movement encoder."""
    movement_channels: int = 512
    """Channels of one movement."""
    motion_width: int = 1024
    """Hidden channels of the motion encoder, each direction."""
    channels: int = 512
    """Channels of the shared space."""


class SequenceEncoder(nn.Module):
    """A bidirectional GRU with a learned start; its two last states become one vector."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.start = nn.Parameter(torch.randn(2, 1, width))
        self.out = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, outputs)
        )

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """x (B, n, inputs) and lengths (B,), or None to run over the padding too -> (B, outputs)."""
        x = self.embed(x)
        start = self.start.expand(-1, len(x), -1).contiguous()
        if lengths is None:
            _, last = self.gru(x, start)
        else:
            _, last = self.gru(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False), start)
        return self.out(torch.cat([last[0], last[1]], dim=-1))


class GuoEvaluator(nn.Module):
    """Captions and motions as vectors whose Euclidean distance says how well they fit.

    The statistics that normalise features for it, which are not those a generator is trained with, are buffers.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: GuoConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_class = nn.Linear(config.word_classes, config.word_channels)
        self.text = SequenceEncoder(config.word_channels, config.text_width, config.channels)
        self.movement = nn.Sequential(
            nn.Conv1d(config.features - CONTACTS, config.movement_width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(config.movement_width, config.movement_channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.movement_out = nn.Linear(config.movement_channels, config.movement_channels)
        self.motion = SequenceEncoder(config.movement_channels, config.motion_width, config.channels)
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))

    def normalise(self, features: Tensor) -> Tensor:
        """HumanML3D features (..., F) -> what `embed_motion` takes."""
        return (features - self.feature_mean) / self.feature_std

    def embed_text(self, words: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
        """Captions, the marks of start and end included.

        Args:
            words: (B, n, word_channels) word vectors.
            classes: (B, n, word_classes) one-hot.
            lengths: (B,) words of each caption, 1 to n.

        Returns:
            (B, channels).
        """
        _check_lengths(lengths, words, 1, "words")
        return self.text(words + self.embed_class(classes), lengths)

    def movements(self, features: Tensor) -> Tensor:
        """Normalised features (B, T, F) -> (B, T // 4, movement_channels), one vector for four frames."""
        x = self.movement(features[..., :-CONTACTS].transpose(1, 2)).transpose(1, 2)
        return self.movement_out(x)

    def embed_motion(self, features: Tensor, lengths: Tensor, packed: bool = True) -> Tensor:
        """Motions.

        The convolutions look two frames past a clip's end, where the padding is: numbers that are to be compared need
        padding of the same value, and of the same length (196 frames in Guo et al.'s protocol) unless packed.

        Args:
            features: (B, T, F), normalised by `normalise`, 0 past each clip's end.
            lengths: (B,) frames of each clip, 4 to T; those beyond a multiple of 4 are not seen.
            packed: stop at each clip's end as Guo et al. do; otherwise run over the padding too and ignore `lengths`,
                as the evaluation of MotionGPT and MotionGPT3 does.

        Returns:
            (B, channels).
        """
        _check_lengths(lengths, features, UNIT, "frames")
        steps = torch.div(lengths, UNIT, rounding_mode="floor")
        return self.motion(self.movements(features), steps if packed else None)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors; raises MotionGPT3Error when they cannot be written."""
        write_folder(folder, {"format": 1, KIND: asdict(self.config)}, self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> GuoEvaluator:
        """The evaluator of a folder, in eval mode; raises MotionGPT3Error when there is none or it is damaged."""
        config = read_config(folder)
        if KIND not in config:
            raise MotionGPT3Error(f"{folder} is no evaluator; make one with `motiongpt3 convert evaluator`")
        with torch.device("meta"):
            evaluator = cls(parse_config(GuoConfig, config[KIND]))
        load_weights(evaluator, folder, assign=True)
        return evaluator.eval().requires_grad_(False)


def _check_lengths(lengths: Tensor, x: Tensor, least: int, unit: str) -> None:
    if lengths.shape != x.shape[:1] or int(lengths.min()) < least or int(lengths.max()) > x.shape[1]:
        raise MotionGPT3Error(f"lengths must be {len(x)} numbers of {unit}, each {least} to {x.shape[1]}")
