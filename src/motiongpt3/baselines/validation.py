"""How good motions are while a generator trains: retrieval and distribution in an evaluator's space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.baselines.networks import CodeNetwork
from motiongpt3.baselines.vq import MotionVQ
from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.distribution import frechet_distance
from motiongpt3.evaluation.metrics.retrieval import r_precision
from motiongpt3.evaluation.tmr import load_evaluator
from motiongpt3.models.network import Network
from motiongpt3.models.request import DrawOptions
from motiongpt3.serialization import atomic_path

GROUP = 32
"""Motions among which a text has to find its own; no two of them carry one label."""
SAMPLINGS = 10
"""Ways of drawing the groups over which retrieval is averaged."""
DRAWN_TOGETHER = 256
"""Motions that are generated at once."""


class HeldOutClips:
    """The captioned clips of a split: what generators are asked for, and what their motions are measured against.

    Args:
        pack: the clips; those without a caption are left out.
        split: which of them.
        longest: frames; longer clips are left out.
        evaluator: its name or folder.
        texts: file with its embeddings of the captions; None: its sentence encoder makes them.
        device: where to compute.

    Attributes:
        captions: the first of each of the N clips.
        frames: (N,) of each.
        features: (N, T, 263), not normalised.
        real: (N, D) the evaluator's embeddings of them.
    """

    def __init__(
        self, pack: PackedClips, split: str, longest: int, evaluator: str, texts: Path | None, device: torch.device
    ) -> None:
        bank = ClipBank([pack], split).to(device)
        rows = [n for n, clip in enumerate(bank.clips) if clip.captions and clip.frames <= longest]
        clips = torch.tensor(rows, device=device)
        self.captions = [bank.clips[row].captions[0] for row in rows]
        self.frames = bank.frames[clips]
        nothing = torch.zeros_like(clips)
        self.features = bank.take(clips, nothing, self.frames, nothing.bool())
        self.evaluator = load_evaluator(evaluator)
        if texts is None:
            self.texts = self.evaluator.embed_texts(self.captions).cpu()
        else:
            self.texts = read_texts(texts, self.captions, self.evaluator.sha256)
        self.labels = [bank.clips[row].label for row in rows]
        self.real = self.embed(self.features)

    @torch.no_grad()
    def embed(self, features: Tensor, size: int = 128) -> Tensor:
        """Features (N, T, 263) of a motion per clip -> (N, D).

        On the CPU, as all that follows: clip by clip it is, and would keep an accelerator waiting.
        """
        parts = zip(features.cpu().float().split(size), self.frames.cpu().split(size), strict=True)
        return torch.cat([self.evaluator.embed_features(part, frames).float() for part, frames in parts])

    def score_features(self, features: Tensor) -> dict[str, float]:
        """Scores of features (N, T, 263) of one motion per caption, see `scores`."""
        return scores(self.embed(features), self.real, self.texts, self.labels)

    def score(
        self, network: Network, seed: int, temperature: float = 1.0, guidance: float | None = None
    ) -> dict[str, float]:
        """Scores of one motion per caption, each as long as the recording."""
        return self.score_features(self.draw(network, seed, temperature, guidance))

    @torch.no_grad()
    def draw(self, network: Network, seed: int, temperature: float = 1.0, guidance: float | None = None) -> Tensor:
        """Features (N, T, 263), not normalised, of one motion per caption."""
        training = network.training
        network.eval()
        tokens, parts = network.tokens(self.captions), []
        for first in range(0, len(tokens), DRAWN_TOGETHER):
            frames = self.frames[first : first + DRAWN_TOGETHER]
            some = tokens[first : first + DRAWN_TOGETHER]
            made: Tensor
            if isinstance(network, CodeNetwork):
                made = network.vae.decode_features(network.write(some, frames, temperature, seed + first), frames)
            else:
                cache, start = network.encode_text(some)
                _, hidden = network.run_queries(cache, start, frames)
                seeds = range(seed * 1_000_003 + first, seed * 1_000_003 + first + len(some))
                made = network.vae.decode_features(
                    network.draw_latents(hidden, seeds, DrawOptions(guidance=guidance)), frames
                )
            parts.append(F.pad(made, (0, 0, 0, self.features.shape[1] - made.shape[1])))
        network.train(training)
        network.vae.eval()
        return torch.cat(parts)

    @torch.no_grad()
    def reconstruct(self, network: Network) -> Tensor:
        """Features (N, T, 263) of the recordings through the autoencoder: what a perfect generator would make."""
        autoencoder: Any = network.vae
        parts = []
        for features, frames in zip(self.features.split(128), self.frames.split(128), strict=True):
            encoded = autoencoder.encode(autoencoder.normalise(features), frames)
            if not isinstance(autoencoder, MotionVQ):
                encoded = autoencoder.normalise_latents(encoded[0])
            made = autoencoder.decode_features(encoded, frames)
            parts.append(F.pad(made, (0, 0, 0, features.shape[1] - made.shape[1])))
        return torch.cat(parts)


def scores(made: Tensor, real: Tensor, texts: Tensor, labels: Sequence[str]) -> dict[str, float]:
    """R-precision in groups with one motion per label, MM-Dist, and the distance to the recorded motions.

    Args:
        made: (N, D) the evaluator's embeddings of one motion per text.
        real: (N, D) those of the recorded motions.
        texts: (N, D) those of the texts.
        labels: what each recorded motion shows.

    Returns:
        r_precision_1 to r_precision_3, mm_dist and fid; NaN where undefined.
    """
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    groups = torch.tensor([numbers[label] for label in labels])
    rounds = [r_precision(texts, made, GROUP, 3, seed, groups) for seed in range(SAMPLINGS)]
    found = {name: sum(float(r[name]) for r in rounds) / SAMPLINGS for name in rounds[0] if name != "groups"}
    enough = len(made) > made.shape[1] and bool(torch.isfinite(made).all())
    return found | {"fid": float(frechet_distance(made, real)) if enough else float("nan")}


def write_texts(file: Path, captions: Sequence[str], embeddings: Tensor, evaluator: str = "") -> None:
    """Store embeddings (N, D) of N captions, so that training needs no sentence encoder.

    `evaluator` is the hash of the weights that made them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"captions": json.dumps(list(captions)), "evaluator": evaluator}
    with atomic_path(file) as temporary:
        save_file({"text": embeddings.detach().cpu().float().contiguous()}, temporary, metadata=metadata)


def read_texts(file: Path, captions: Sequence[str], evaluator: str = "") -> Tensor:
    """Embeddings (N, D) of captions from a file of `write_texts`.

    Raises:
        MotionGPT3Error: it lacks one, or another evaluator than `evaluator` made it.
    """
    try:
        with safe_open(file, "pt") as stored:
            table = stored.get_tensor("text")
            about = stored.metadata() or {}
            known: list[str] = json.loads(about["captions"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise MotionGPT3Error(f"{file} holds no text embeddings ({reason[:100]})") from None
    if evaluator and about.get("evaluator") != evaluator:
        raise MotionGPT3Error(f"{file} was made with another evaluator; make it again")
    rows = {caption: row for row, caption in enumerate(known)}
    missing = [caption for caption in captions if caption not in rows]
    if missing or table.ndim != 2 or len(table) != len(known):
        raise MotionGPT3Error(f"{file} does not fit these clips: it lacks {missing[:1]} and {len(missing)} in all")
    return table[[rows[caption] for caption in captions]]
