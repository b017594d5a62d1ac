"""A small official checkpoint under the official names, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.official.convert import VAE_NAMES

WIDTH, CHANNELS, HOLDERS, LAYERS = 16, 16, 4, 2
VAE = VAEConfig(
    latent_tokens=1, latent_channels=CHANNELS, width=16, layers=3, mlp_width=24, patch=1, positions=210, norm="post"
)
STATISTICS = ("feature_mean", "feature_std", "latent_mean", "latent_std")


def old_names(state: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    """Our tensors as the published files name and shape them."""
    found = {}
    for name, tensor in state.items():
        if name in STATISTICS:
            continue
        old = next((old + name.removeprefix(new) for new, old in table.items() if name.startswith(new)), name)
        found[old] = tensor.unsqueeze(1) if old.endswith(".pe") else tensor
    return found


def vae_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return old_names(MotionVAE(VAE).state_dict(), VAE_NAMES)


def language_shapes(words: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `lm.*`; GPT-2 stores its matrices as (in, out), the others are (out, in)."""
    w = WIDTH
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (words + 2, w), "wpe.weight": (256, w)}
    for stream in range(2):
        for layer in range(LAYERS):
            for name, rows, columns in (
                (f"c_attn.fn.{stream}", w, 3 * w),
                (f"c_proj.fn.{stream}", w, w),
                (f"mlp.fn.{stream}.c_fc", w, 4 * w),
                (f"mlp.fn.{stream}.c_proj", 4 * w, w),
            ):
                shapes |= {f"h.{layer}.{name}.weight": (rows, columns), f"h.{layer}.{name}.bias": (columns,)}
        norms = [f"h.{layer}.ln_{k}.fn.{stream}" for layer in range(LAYERS) for k in (1, 2)] + [f"ln_f.fn.{stream}"]
        shapes |= {f"{name}.{kind}": (w,) for name in norms for kind in ("weight", "bias")}
    shapes = {f"language_model.transformer.{name}": shape for name, shape in shapes.items()}
    head = "diffloss.net."
    pool = f"{head}cond_embed.hid_encoder_layer."
    linear = {
        "motion_und_head.layers": (HOLDERS * w, CHANNELS),
        f"{head}cond_embed.cond_proj": (w, w),
        f"{pool}linear1": (2 * w, w),
        f"{pool}linear2": (w, 2 * w),
        f"{pool}self_attn.out_proj": (w, w),
        f"{head}time_embed.mlp.0": (w, 256),
        f"{head}time_embed.mlp.2": (w, w),
        f"{head}input_proj": (w, CHANNELS),
        f"{head}res_blocks.0.mlp.0": (w, w),
        f"{head}res_blocks.0.mlp.2": (w, w),
        f"{head}res_blocks.0.adaLN_modulation.1": (3 * w, w),
        f"{head}final_layer.adaLN_modulation.1": (2 * w, w),
        f"{head}final_layer.linear": (CHANNELS, w),
    }
    for name, (rows, columns) in linear.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in (f"{pool}norm1", f"{pool}norm2", f"{head}res_blocks.0.in_ln"):
        shapes |= {f"{name}.weight": (w,), f"{name}.bias": (w,)}
    return shapes | {
        f"{pool}self_attn.in_proj_weight": (3 * w, w),
        f"{pool}self_attn.in_proj_bias": (3 * w,),
        f"{head}cond_embed.hidden_embedding": (1, w),
        f"{head}cond_embed.hid_pos.pe": (50, 1, w),
        "fake_latent": (HOLDERS, w),
        "language_model.pre_processors.1.weight": (6, w),
        "language_model.post_processors.1.weight": (6, w),
    }


def official_tensors(words: int) -> dict[str, Tensor]:
    """A state dict of `lm.*` and `vae.*` with random numbers."""
    torch.manual_seed(1)
    state = {}
    for name, shape in language_shapes(words).items():
        numbers = torch.randn(shape) * (0.1 if len(shape) == 1 else 0.3)
        state[f"lm.{name}"] = numbers + 1 if len(shape) == 1 and name.endswith("weight") else numbers
    table = state["lm.language_model.transformer.wte.weight"]
    for name in ("lm_head", "pre_processors.0", "post_processors.0"):
        state[f"lm.language_model.{name}.weight"] = table
    return state | {f"vae.{name}": tensor for name, tensor in vae_tensors().items()}
