"""Which evaluator a protocol asks for, and how it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import GUO_KIND, GuoEvaluator, GuoTextMotion, WordVectors
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.serialization import WEIGHTS, read_config

if TYPE_CHECKING:
    from motiongpt3.evaluation.protocols import EvaluationProtocol
    from motiongpt3.evaluation.tmr import TextMotionEvaluator


NO_WORDS = (
    "Guo et al.'s evaluator reads captions by word vectors (GloVe and word classes) that motiongpt3 does not carry: "
    "name a folder with them by --words; without it, what compares texts with motions is undefined"
)


def check_evaluator(protocol: EvaluationProtocol, folder: str | None) -> None:
    """MotionGPT3Error unless the evaluator is of the kind that the protocol asks for."""
    if protocol.evaluator == "guo":
        if folder is None:
            raise MotionGPT3Error(
                f"{protocol.name} needs Guo et al.'s evaluator: convert the published weights with `motiongpt3 convert "
                "evaluator` and name the folder by --evaluator"
            )
        if GUO_KIND not in read_config(folder):
            raise MotionGPT3Error(f"{protocol.name} needs Guo et al.'s evaluator, and {folder} is another")
    elif folder is not None and _is_guo(folder):
        raise MotionGPT3Error(
            f"{protocol.name} is defined with our own evaluator, and {folder} is Guo et al.'s; use humanml3d-strict"
        )


def open_evaluator(
    folder: str | None = None, words: str | None = None, packed: bool = True, device: str = "cpu"
) -> TextMotionEvaluator:
    """An evaluator.

    Args:
        folder: of one of ours or of `motiongpt3 convert evaluator`; None: the one of this package.
        words: word vectors for Guo et al.'s, see `guo.WordVectors`.
        packed: see `GuoTextMotion`.
        device: where to compute.

    Raises:
        MotionGPT3Error: there is none, or it is damaged.
    """
    from motiongpt3.evaluation.tmr import load_evaluator

    if folder is None:
        return load_evaluator(device=device)
    if not _is_guo(folder):
        return load_evaluator(folder, device)
    network = GuoEvaluator.load(folder).to(device)
    vectors = None if words is None else WordVectors.open(words, network.config.word_channels)
    return GuoTextMotion(network, files_hash([Path(folder) / WEIGHTS]), packed, vectors)


def _is_guo(folder: str) -> bool:
    return Path(folder).is_dir() and GUO_KIND in read_config(folder)
