"""The official code's losses, with which the released weights were trained; ours learn from what is asked alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from motiongpt3.models.vae import kl_divergence
from motiongpt3.motion.features import feature_slices
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.official.model import OfficialMotionGPT3
from motiongpt3.official.sequence import OfficialRows


def official_text_loss(model: OfficialMotionGPT3, rows: OfficialRows, words: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, wherever that is a word, <start_of_motion>, or padding.

    Prompts count as answers do, and so does padding: about 170 of 187 tokens of a row padded to 192. A word after a
    motion token, which only <start_of_motion> after a masked motion is, is predicted from a vector of zeros: its loss
    is the logarithm of the vocabulary's size.

    Args:
        model: the converted model.
        rows: padded as the official code does (`official_sequence.PADDED_TOKENS`).
        words: final hidden states (B, m, width) of the text stream's own tokens.
    """
    logits = model.backbone.logits(rows.scatter(words, motion=False)[:, :-1])
    following = rows.ids[:, 1:]
    counted = ~rows.motion[:, 1:] & (following != model.backbone.end_of_motion)
    return F.cross_entropy(logits[counted], following[counted])


def official_vae_losses(output: Tensor, features: Tensor, mean: Tensor, log_variance: Tensor) -> dict[str, Tensor]:
    """Terms and sum of the official VAE loss, over padding too.

    Args:
        output: (B, T, F) reconstruction, normalised.
        features: (B, T, F) target, normalised, 0 past a clip's end.
        mean: of the latent distribution.
        log_variance: the same shape.

    Returns:
        `features` and `positions`, smooth L1 over all channels and over those of the joints' positions; `kl`; and
        `total` = features + 0.5 positions + 1e-5 kl.
    """
    positions = feature_slices(HUMANML3D).positions
    terms = {
        "features": F.smooth_l1_loss(output, features),
        "positions": F.smooth_l1_loss(output[..., positions], features[..., positions]),
        "kl": kl_divergence(mean, log_variance),
    }
    return terms | {"total": terms["features"] + 0.5 * terms["positions"] + 1e-5 * terms["kl"]}
