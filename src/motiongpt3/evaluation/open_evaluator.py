"""Which evaluator a protocol asks for, and Guo et al.'s behind the interface of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GUO_KIND, GuoEvaluator
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.motion import Motion
from motiongpt3.serialization import WEIGHTS, read_config

if TYPE_CHECKING:
    from motiongpt3.evaluation.guo import WordVectors
    from motiongpt3.evaluation.protocols import Protocol
    from motiongpt3.evaluation.tmr import TextMotionEvaluator


PADDED = 200
"""Frames that clips are padded to where the evaluator stops at their end: its convolutions look just past it."""
NO_WORDS = (
    "Guo et al.'s evaluator reads captions by word vectors (GloVe and word classes) that motiongpt3 does not carry: "
    "name a folder with them by --words; without it, what compares texts with motions is undefined"
)


class GuoTextMotion:
    """Guo et al.'s networks as a text-motion evaluator.

    Features are computed from joints, of recorded and of generated motions alike.

    Args:
        network: in eval mode.
        sha256: of its weights.
        packed: stop at each clip's end. Otherwise motions that are embedded together are padded to the longest of them
            and the padding is read too, as the evaluations of MotionGPT and MotionGPT3 do.
        words: what captions are read with; None: they cannot be.
    """

    def __init__(self, network: GuoEvaluator, sha256: str, packed: bool, words: WordVectors | None = None) -> None:
        self.network, self.sha256, self.packed, self.words = network, sha256, packed, words
        self.channels = network.config.channels
        self.name = f"Guo et al., {'packed' if packed else 'unpacked'}"

    @torch.inference_mode()
    def embed_motions(self, motions: Sequence[Motion]) -> Tensor:
        """Motions at 20 fps, of 4 to 200 frames -> (N, D) float32; one batch."""
        lengths = torch.tensor([len(motion) for motion in motions])
        device = self.network.feature_mean.device
        longest = max(PADDED, int(lengths.max())) if self.packed else int(lengths.max())
        padded = torch.zeros(len(motions), longest, self.network.config.features, device=device)
        for row, motion in zip(padded, motions, strict=True):
            features = joints_to_features(torch.from_numpy(motion.joints.copy())).to(device)
            row[: len(motion)] = self.network.normalise(features)
        return self.network.embed_motion(padded, lengths, self.packed).float().cpu()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (N, D) float32; NaN without word vectors."""
        if self.words is None:
            return torch.full((len(texts), self.channels), torch.nan)
        device = self.network.feature_mean.device
        words, classes, lengths = (one.to(device) for one in self.words(texts))
        return self.network.embed_text(words, classes, lengths).float().cpu()


def check_evaluator(protocol: Protocol, folder: str | None) -> None:
    """MotionGPT3Error unless the evaluator is of the kind that the protocol asks for."""
    if protocol.evaluator == "guo":
        if folder is None:
            raise MotionGPT3Error(
                f"{protocol.name} needs Guo et al.'s evaluator: convert the published weights with `motiongpt3 convert "
                "evaluator` and name the folder by --evaluator"
            )
        if GUO_KIND not in read_config(folder):
            raise MotionGPT3Error(f"{protocol.name} needs Guo et al.'s evaluator, and {folder} is another")
    elif folder is not None and Path(folder).is_dir() and GUO_KIND in read_config(folder):
        raise MotionGPT3Error(
            f"{protocol.name} is defined with our own evaluator, and {folder} is Guo et al.'s; use humanml3d-strict"
        )


def open_evaluator(
    folder: str | None = None, words: str | None = None, packed: bool = True, device: str = "cpu"
) -> TextMotionEvaluator:
    """An evaluator.

    Args:
        folder: of one of ours or of `motiongpt3 convert evaluator`; None: the one of this package.
        words: word vectors for Guo et al.'s, see `guo_words.WordVectors`.
        packed: see `GuoTextMotion`.
        device: where to compute.

    Raises:
        MotionGPT3Error: there is none, or it is damaged.
    """
    from motiongpt3.evaluation.tmr import load_evaluator

    if folder is None:
        return load_evaluator(device=device)
    if not Path(folder).is_dir() or GUO_KIND not in read_config(folder):
        return load_evaluator(folder, device)
    network = GuoEvaluator.load(folder).to(device)
    vectors = None
    if words is not None:
        from motiongpt3.evaluation.guo import WordVectors

        vectors = WordVectors.open(words, network.config.word_channels)
    return GuoTextMotion(network, files_hash([Path(folder) / WEIGHTS]), packed, vectors)
