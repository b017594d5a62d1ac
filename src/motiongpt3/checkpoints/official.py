"""Published weights under our names: MLD's motion VAE and Guo et al.'s evaluator.

Sizes are read from the tensors, and every tensor of the part must be there, have the right shape and type, and be
finite. Key lists: the official MotionGPT3 code (commit cf5bab7), which uses both parts as their authors published them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from motiongpt3.checkpoints.folder import parse_config
from motiongpt3.checkpoints.parts import Converted, Part, rename
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import CONTACTS, KIND, GuoConfig, GuoEvaluator
from motiongpt3.formats.arrays import finite, read_npy
from motiongpt3.models.vae import MotionVAE, VAEConfig

LATENT_SCALE = 0.8457
"""What the official code multiplies the VAE's latents with before the diffusion head sees them."""
HEADS = 4
"""Attention heads of MLD's VAE, which its tensors do not tell."""
MAX_BLOCKS = 100
"""Most blocks of half a transformer; MLD's has 4."""
VAE_NAMES = {
    "skel_embedding.": "embed.",
    "global_motion_token": "distribution_tokens",
    "query_pos_encoder.pe": "encoder_positions",
    "query_pos_decoder.pe": "decoder_positions",
    "final_layer.": "to_features.",
}
"""How names begin in MLD's VAE and in ours, where they differ."""
EVALUATOR_NAMES = {
    "text_encoder.pos_emb.": "embed_class.",
    "text_encoder.input_emb.": "text.embed.",
    "text_encoder.gru.": "text.gru.",
    "text_encoder.hidden": "text.start",
    "text_encoder.output_net.": "text.out.",
    "movement_encoder.main.0.": "movement.0.",
    "movement_encoder.main.3.": "movement.2.",
    "movement_encoder.out_net.": "movement_out.",
    "motion_encoder.input_emb.": "motion.embed.",
    "motion_encoder.gru.": "motion.gru.",
    "motion_encoder.hidden": "motion.start",
    "motion_encoder.output_net.": "motion.out.",
}
"""How names begin in Guo et al.'s evaluator and in ours."""
_EVALUATOR_ALONE = {f"{name}_encoder.": f"{name}_encoder." for name in ("text", "movement", "motion")}
_EVALUATOR_INSIDE = {
    "metrics.TM2TMetrics.t2m_textencoder.": "text_encoder.",
    "metrics.TM2TMetrics.t2m_moveencoder.": "movement_encoder.",
    "metrics.TM2TMetrics.t2m_motionencoder.": "motion_encoder.",
}
"""How a whole MotionGPT3 checkpoint names the evaluator's networks."""


def convert_mld_vae(tensors: Mapping[str, Tensor], mean: Tensor, std: Tensor) -> Converted:
    """MLD's motion VAE as a MotionVAE.

    Args:
        tensors: the state dict of MLD or of MotionGPT3, whose VAE is called `vae.`, or of the VAE alone.
        mean: (F,) means of the features the VAE was trained on.
        std: (F,) their deviations.

    Returns:
        A VAE folder's content, as `motiongpt3 train vae` writes it. Latents are scaled as in the official code.

    Raises:
        MotionGPT3Error: a tensor is missing, unexpected, misshapen, of a wrong type or not finite.
    """
    inside = any(name.startswith("vae.") for name in tensors)
    part = Part.of(tensors, {"vae.": ""} if inside else {"": ""})
    width = part.size("global_motion_token", 2, 1)
    if part.size("global_motion_token", 2, 0) != 2:
        raise MotionGPT3Error("this VAE has more than one latent token; only MLD's VAE with one can be converted")
    blocks = len({name.split(".")[2] for name in part.names if name.startswith("encoder.input_blocks.")})
    if blocks > MAX_BLOCKS:
        raise MotionGPT3Error(f"this checkpoint does not fit: its VAE has {2 * blocks + 1} layers")
    config = VAEConfig(
        features=part.size("skel_embedding.weight", 2, 1),
        latent_tokens=1,
        latent_channels=width,
        width=width,
        layers=2 * blocks + 1,
        heads=HEADS,
        mlp_width=part.size("encoder.middle_block.linear1.weight", 2, 0),
        patch=1,
        positions=part.size("query_pos_encoder.pe", 3, 0),
        max_frames=200,
        min_frames=20,
        norm="post",
        dropout=0.1,
    )
    statistics = {
        **_feature_statistics(mean, std, config.features),
        "latent_mean": torch.zeros(1, width),
        "latent_std": torch.full((1, width), 1 / LATENT_SCALE),
    }
    return _converted(
        part, lambda: MotionVAE(parse_config(VAEConfig, asdict(config))), VAE_NAMES, "vae", config, statistics
    )


def convert_evaluator(tensors: Mapping[str, Tensor], mean: Tensor, std: Tensor) -> Converted:
    """Guo et al.'s text, movement and motion encoders as a GuoEvaluator.

    Args:
        tensors: `text_encoder.*`, `movement_encoder.*` and `motion_encoder.*`, or the state dict of MotionGPT3.
        mean: (F,) means that normalise features for the evaluator: not those of the training data.
        std: (F,) the deviations.

    Raises:
        MotionGPT3Error: as `convert_mld_vae`.
    """
    inside = any(name.startswith(tuple(_EVALUATOR_INSIDE)) for name in tensors)
    part = Part.of(tensors, _EVALUATOR_INSIDE if inside else _EVALUATOR_ALONE)
    config = GuoConfig(
        features=part.size("movement_encoder.main.0.weight", 3, 1) + CONTACTS,
        word_channels=part.size("text_encoder.pos_emb.weight", 2, 0),
        word_classes=part.size("text_encoder.pos_emb.weight", 2, 1),
        text_width=part.size("text_encoder.input_emb.weight", 2, 0),
        movement_width=part.size("movement_encoder.main.0.weight", 3, 0),
        movement_channels=part.size("movement_encoder.out_net.weight", 2, 0),
        motion_width=part.size("motion_encoder.input_emb.weight", 2, 0),
        channels=part.size("motion_encoder.output_net.3.weight", 2, 0),
    )
    statistics = _feature_statistics(mean, std, config.features)
    return _converted(
        part, lambda: GuoEvaluator(parse_config(GuoConfig, asdict(config))), EVALUATOR_NAMES, KIND, config, statistics
    )


def read_statistics(path: str | Path) -> Tensor:
    """(F,) float32 from a .npy file such as HumanML3D's Mean.npy; raises MotionGPT3Error when it holds no numbers."""
    array = finite(read_npy(Path(path)), str(path))
    if array.ndim != 1:
        raise MotionGPT3Error(f"{path} holds an array of shape {array.shape}; one number per feature channel is needed")
    return torch.from_numpy(array).float()


def _converted(
    part: Part,
    make: Callable[[], nn.Module],
    table: Mapping[str, str],
    kind: str,
    config: VAEConfig | GuoConfig,
    statistics: Mapping[str, Tensor],
) -> Converted:
    back = {ours: theirs for theirs, ours in table.items()}
    found, mapped = part.collect(make, lambda ours: rename(ours, back), statistics, _flat_positions)
    ignored = [name for name in part.tensors if name not in mapped]
    return Converted({"format": 1, kind: asdict(config)}, found, mapped, ignored)


def _flat_positions(ours: str, tensor: Tensor) -> Tensor:
    """Learned positions (n, 1, width) -> (n, width)."""
    return tensor.squeeze(1) if ours.endswith("_positions") and tensor.dim() == 3 else tensor


def _feature_statistics(mean: Tensor, std: Tensor, features: int) -> dict[str, Tensor]:
    for what, values in (("means", mean), ("deviations", std)):
        if values.shape != (features,):
            raise MotionGPT3Error(f"the {what} are {values.numel()} numbers; this checkpoint needs {features}")
    if not (std > 0).all():
        raise MotionGPT3Error("the deviations must be above 0; are the means and deviations swapped?")
    return {"feature_mean": mean.float(), "feature_std": std.float()}
