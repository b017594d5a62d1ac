"""What every evaluator can do, and where evaluators come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from motiongpt3.checkpoints.folder import WEIGHTS, read_config
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.evaluation.sentences import SentenceEncoder, load_sentences
from motiongpt3.evaluation.tmr import KIND, TMR
from motiongpt3.motion.features import canonicalise, joints_to_features
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

MOCAP = "mocap"
"""The evaluator that ships inside the package, trained on the train split of the captioned motion capture."""
EMBEDDED = Path(__file__).resolve().parent / "mocap_evaluator"
FPS = 20.0
MOST_TEXTS = 50_000
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
                self._sentences = load_sentences(self.network.config.sentences, self._wanted).to(self.device)
            vectors = self.network.embed_sentences(self._sentences(new))
            if len(self._known) + len(new) > MOST_TEXTS:
                self._known = {text: self._known[text] for text in texts if text in self._known}
            self._known.update(zip(new, vectors, strict=True))
        if not texts:
            return torch.zeros(0, self.channels, device=self.device)
        return torch.stack([self._known[text] for text in texts])


def load_evaluator(name_or_folder: str = MOCAP, device: str | torch.device | None = None) -> MotionTextEvaluator:
    """An evaluator, in eval mode.

    Args:
        name_or_folder: "mocap" for the one of this package, or a folder that `motiongpt3 train evaluator` wrote.
        device: where to compute; the CPU if left out.

    Raises:
        MotionGPT3Error: there is none, or it is damaged.
    """
    folder = EMBEDDED if name_or_folder == MOCAP else Path(name_or_folder)
    if not folder.is_dir():
        raise MotionGPT3Error(f"there is no evaluator {str(name_or_folder)[:200]!r}: give a folder or {MOCAP!r}")
    config = read_config(folder)
    if KIND not in config:
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
