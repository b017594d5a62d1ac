"""Published checkpoints under our names: a whole MotionGPT3, MLD's motion VAE, Guo et al.'s evaluator, and GPT-2.

Sizes are read from the tensors. Every tensor of a part must be there, have the right shape and type and be finite, and
is mapped, a copy of one that is, or never used; anything else is an error. Of a whole checkpoint `lm.*` and `vae.*` are
converted; `metrics.*` is the evaluator and `_losses.*` counts training steps. Key lists: the official MotionGPT3 code
(commit cf5bab7), which uses the VAE and the evaluator as their authors published them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.guo import CONTACTS, GUO_KIND, GuoConfig, GuoEvaluator
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.backbone_files import MAX_JSON, read_json, read_tokenizer
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.official.holders import TEXT_END
from motiongpt3.official.model import STEPS, OfficialMotionGPT3
from motiongpt3.serialization import parse_config
from motiongpt3.untrusted import finite, read_npy

FLOAT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types that become float32 without loss."""
MAX_LAYERS = 100
"""Layers of the largest transformer that is read; those of the released model have 12, 9 and 3."""

# What the tensors do not tell, from the official configuration.
LATENT_SCALE = 0.8457
"""What the official code multiplies the VAE's latents with before the diffusion head sees them."""
VAE_HEADS = 4
"""Attention heads of MLD's VAE."""
POOL_HEADS = 4
"""Attention heads of the diffusion head's pooling."""
GUIDANCE = 7.5
"""Scale of classifier-free guidance in the official evaluation and demo."""
DROPOUT = 0.1
"""Of the motion stream and of the diffusion head's pooling; it matters to further training alone."""

VAE_NAMES = {
    "embed.": "skel_embedding.",
    "distribution_tokens": "global_motion_token",
    "encoder_positions": "query_pos_encoder.pe",
    "decoder_positions": "query_pos_decoder.pe",
    "to_features.": "final_layer.",
}
"""How names begin in our VAE and in MLD's, where they differ."""
EVALUATOR_NAMES = {
    "embed_class.": "text_encoder.pos_emb.",
    "text.embed.": "text_encoder.input_emb.",
    "text.gru.": "text_encoder.gru.",
    "text.start": "text_encoder.hidden",
    "text.out.": "text_encoder.output_net.",
    "movement.0.": "movement_encoder.main.0.",
    "movement.2.": "movement_encoder.main.3.",
    "movement_out.": "movement_encoder.out_net.",
    "motion.embed.": "motion_encoder.input_emb.",
    "motion.gru.": "motion_encoder.gru.",
    "motion.start": "motion_encoder.hidden",
    "motion.out.": "motion_encoder.output_net.",
}
"""How names begin in our evaluator and in Guo et al.'s."""
_EVALUATOR_ALONE = {f"{name}_encoder.": f"{name}_encoder." for name in ("text", "movement", "motion")}
_EVALUATOR_INSIDE = {
    "metrics.TM2TMetrics.t2m_textencoder.": "text_encoder.",
    "metrics.TM2TMetrics.t2m_moveencoder.": "movement_encoder.",
    "metrics.TM2TMetrics.t2m_motionencoder.": "motion_encoder.",
}
"""How a whole MotionGPT3 checkpoint names the evaluator's networks."""
TIED = ("lm_head.weight", "pre_processors.0.weight", "post_processors.0.weight")
"""Further names of the word embeddings."""
UNUSED = "language_model.post_processors.1.weight"
"""Scores of motion tokens, which no loss and no sampler reads."""
IGNORED = ("metrics.", "_losses.")
"""Beginnings of names that belong to other parts."""
OPTIONAL = "fake_latent"
"""The stand-in for a condition; a model trained without guidance has none."""
BLOCK_NAMES = {"norm": "in_ln", "mlp": "mlp", "modulation": "adaLN_modulation"}
"""Parts of a block of the diffusion head, in ours and theirs."""
LAYER_NAMES = {
    "norm_1": "ln_1.fn.{}",
    "qkv": "c_attn.fn.{}",
    "out": "c_proj.fn.{}",
    "norm_2": "ln_2.fn.{}",
    "up": "mlp.fn.{}.c_fc",
    "down": "mlp.fn.{}.c_proj",
}
"""Parts of a transformer layer, in ours and theirs; 0 is text, 1 is motion."""
MODEL_NAMES = {
    "head.pool_token": "diffloss.net.cond_embed.hidden_embedding",
    "head.pool_positions": "diffloss.net.cond_embed.hid_pos.pe",
    "head.pool.": "diffloss.net.cond_embed.hid_encoder_layer.",
    "head.embed_condition.": "diffloss.net.cond_embed.cond_proj.",
    "head.embed_time.": "diffloss.net.time_embed.mlp.",
    "head.embed_latent.": "diffloss.net.input_proj.",
    "head.final_modulation.": "diffloss.net.final_layer.adaLN_modulation.",
    "head.final.": "diffloss.net.final_layer.linear.",
    "head.no_condition": OPTIONAL,
    "holders.rows": "language_model.pre_processors.1.weight",
    "holders.understand.": "motion_und_head.layers.",
    "backbone.embedding": "language_model.transformer.wte.weight",
    "backbone.special": "language_model.transformer.wte.weight",
}
"""How names begin in our whole model and in theirs; the transformer's layers and the head's blocks apart."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint, or a part of one, under our names; `serialization.write_folder` writes it."""

    config: dict[str, Any]
    """config.json."""
    tensors: dict[str, Tensor]
    """model.safetensors: float32, statistics included."""
    mapped: dict[str, str]
    """Name in the checkpoint -> name of ours."""
    ignored: list[str]
    """Names in the checkpoint that belong to other parts."""
    backbone: dict[str, Any] = field(default_factory=dict)
    """backbone.json of a whole model: what rebuilds its text stream."""


def convert_official(
    tensors: Mapping[str, Tensor], mean: Tensor, std: Tensor, tokenizer: Tokenizer, heads: int | None = None
) -> Converted:
    """A MotionGPT3 checkpoint as an OfficialMotionGPT3.

    Args:
        tensors: its state dict.
        mean: (F,) means of the features it was trained on.
        std: (F,) their deviations.
        tokenizer: of the GPT-2 it was built from.
        heads: attention heads of the transformer, which the tensors do not tell; None: of 64 channels, as in GPT-2.

    Raises:
        MotionGPT3Error: a tensor is missing, unexpected, misshapen, of a wrong type or not finite.
    """
    others = [name for name in tensors if name.startswith(IGNORED)]
    for name in tensors:
        if not name.startswith(("lm.", "vae.", *IGNORED)):
            raise _misfit(f"unexpected tensor {name}")
    if not any(name.startswith("vae.") for name in tensors):
        raise _misfit("it has no vae.*, and is not one of MotionGPT3")
    vae = convert_mld_vae(tensors, mean, std)
    part, copies = _without_copies(CheckpointPart.of(tensors, {"lm.": ""}))
    guided = OPTIONAL in part.names
    prefix = "language_model.transformer."
    text = _text_settings(part, prefix, tokenizer, heads, new=2, mlp="mlp.fn.0.c_fc")
    config = _sizes(part, prefix, vae.config["vae"], guided)
    given = {f"vae.{name}": tensor for name, tensor in vae.tensors.items()}
    if not guided:
        given["head.no_condition"] = torch.zeros(config.queries, config.motion_width)

    def make() -> OfficialMotionGPT3:
        return OfficialMotionGPT3(config, TextBackbone.blank(text, tokenizer))

    found, mapped = part.collect(make, _official_name, given)
    mapped |= {theirs: f"vae.{ours}" for theirs, ours in vae.mapped.items()}
    identity = {"backbone_identity": {"name": config.backbone, "sha256": ""}, "includes_backbone": True}
    return Converted({"format": 1, **asdict(config), **identity}, found, mapped, copies + others, text)


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
    part = CheckpointPart.of(tensors, {"vae.": ""} if inside else {"": ""})
    width = part.size("global_motion_token", 2, 1)
    if part.size("global_motion_token", 2, 0) != 2:
        raise MotionGPT3Error("this VAE has more than one latent token; only MLD's VAE with one can be converted")
    blocks = len({name.split(".")[2] for name in part.names if name.startswith("encoder.input_blocks.")})
    if blocks > MAX_LAYERS:
        raise _misfit(f"its VAE has {2 * blocks + 1} layers")
    config = VAEConfig(
        features=part.size("skel_embedding.weight", 2, 1),
        latent_tokens=1,
        latent_channels=width,
        width=width,
        layers=2 * blocks + 1,
        heads=VAE_HEADS,
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
    return _converted(part, MotionVAE, VAE_NAMES, "vae", config, statistics)


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
    part = CheckpointPart.of(tensors, _EVALUATOR_INSIDE if inside else _EVALUATOR_ALONE)
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
    return _converted(part, GuoEvaluator, EVALUATOR_NAMES, GUO_KIND, config, statistics)


def convert_gpt2(tensors: Mapping[str, Tensor], tokenizer: Tokenizer, heads: int | None = None) -> Converted:
    """GPT-2's weights, as `transformers` publishes them in a torch file, as the content of a backbone folder.

    Args:
        tensors: the state dict of GPT2LMHeadModel or GPT2Model.
        tokenizer: its tokenizer.
        heads: as in `convert_official`.

    Raises:
        MotionGPT3Error: as `convert_official`.
    """
    inside = any(name.startswith("transformer.") for name in tensors)
    part = CheckpointPart.of(tensors, {"transformer.": "", "": ""} if inside else {"": ""})
    text = _text_settings(part, "", tokenizer, heads, new=0, mlp="mlp.c_fc")
    parts = ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    needed = [f"h.{i}.{name}.{kind}" for i in range(text["n_layer"]) for name in parts for kind in ("weight", "bias")]
    needed += ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"]
    found = {name: part.numbers(name) for name in needed}
    masks = {f"h.{i}.attn.{name}" for i in range(text["n_layer"]) for name in ("bias", "masked_bias")}
    for name in part.names:
        if name == "lm_head.weight" and not torch.equal(part.get(name), part.get("wte.weight")):
            raise _misfit("lm_head.weight is not the table of words")
        if name not in {*needed, *masks, "lm_head.weight"}:
            raise part.unexpected(name)
    TextBackbone.from_weights(text, found, tokenizer)  # refuses what is misshapen
    mapped = {part.names[name]: name for name in needed}
    return Converted(text, found, mapped, [name for name in tensors if name not in mapped])


def read_statistics(path: str | Path) -> Tensor:
    """(F,) float32 from a .npy file such as HumanML3D's Mean.npy; raises MotionGPT3Error when it holds no numbers."""
    array = finite(read_npy(Path(path)), str(path))
    if array.ndim != 1:
        raise MotionGPT3Error(f"{path} holds an array of shape {array.shape}; one number per feature channel is needed")
    return torch.from_numpy(array).float()


def read_tokenizer_folder(folder: str | Path) -> tuple[Tokenizer, int | None]:
    """GPT-2's tokenizer, and its attention heads where the folder's config.json tells them.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt.

    Raises:
        MotionGPT3Error: it has neither, or they are damaged.
    """
    folder = Path(folder)
    heads = read_json(folder / "config.json").get("n_head") if (folder / "config.json").is_file() else None
    if heads is not None and (type(heads) is not int or not 0 < heads <= 1000):
        raise MotionGPT3Error(f"{folder / 'config.json'} says n_head is {str(heads)[:40]}")
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder / "tokenizer.json"), heads
    if not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise MotionGPT3Error(f"{folder} holds no tokenizer: give a folder with GPT-2's vocab.json and merges.txt")
    if any((folder / name).stat().st_size > MAX_JSON for name in ("vocab.json", "merges.txt")):
        raise MotionGPT3Error(f"the files in {folder} are too large for a tokenizer")
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises nothing narrower
        raise MotionGPT3Error(f"the tokenizer in {folder} is damaged: {str(error).splitlines()[0]}") from None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([TEXT_END])
    return tokenizer, heads


@dataclass(frozen=True)
class CheckpointPart:
    """The tensors of one part of a checkpoint, named as if there were nothing else in it."""

    tensors: Mapping[str, Tensor]
    """All of the checkpoint."""
    names: dict[str, str]
    """Name within the part -> name in the checkpoint."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> CheckpointPart:
        """What begins with one of `prefixes`, which is replaced by its value."""
        names = {}
        for name in tensors:
            prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
            if prefix is not None:
                names[prefixes[prefix] + name.removeprefix(prefix)] = name
        return cls(tensors, names)

    def size(self, name: str, dims: int, axis: int) -> int:
        """One size of a tensor that must be there."""
        shape = self.get(name).shape
        if len(shape) != dims:
            raise _misfit(f"{self.names[name]} has shape {tuple(shape)}")
        return shape[axis]

    def get(self, name: str) -> Tensor:
        """A tensor that must be there."""
        if name not in self.names:
            raise _misfit(f"{name} is missing")
        return self.tensors[self.names[name]]

    def numbers(self, name: str) -> Tensor:
        """A tensor as float32; it must be there, hold floating numbers of 32 bits or fewer, and be finite."""
        tensor, full = self.get(name), self.names[name]
        if tensor.dtype not in FLOAT_DTYPES:
            raise _misfit(f"{full} holds {tensor.dtype}, not float32")
        if not torch.isfinite(tensor).all():
            raise MotionGPT3Error(f"this checkpoint is damaged: {full} holds values that are not finite")
        return tensor.float()

    def unlike(self, name: str, shape: tuple[int, ...]) -> MotionGPT3Error:
        """What to raise for a tensor that should become one of `shape`."""
        return _misfit(f"{self.names[name]} has shape {tuple(self.get(name).shape)}, which is {tuple(shape)} in ours")

    def unexpected(self, name: str) -> MotionGPT3Error:
        """What to raise for a tensor that has no place."""
        return _misfit(f"unexpected tensor {self.names[name]}")

    def collect(
        self,
        make: Callable[[], nn.Module],
        theirs: Callable[[str], str],
        given: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The part as the state dict of the module that `make` makes.

        Args:
            make: makes the module; called where tensors have no memory.
            theirs: our name -> the name within the part.
            given: tensors that the part lacks, under our names.

        Returns:
            Tensors under our names, and what was mapped: name in the checkpoint -> our name, or our names.

        Raises:
            MotionGPT3Error: a tensor is missing, misshapen, of a wrong type, not finite, or has no place.
        """
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in make().state_dict().items() if name not in given}
        found = dict(given)
        mapped: dict[str, str] = {}
        for ours, shape in wanted.items():
            name = theirs(ours)
            tensor = _formed(ours, self.numbers(name))
            if tensor.shape != shape:
                raise self.unlike(name, shape)
            found[ours] = tensor
            full = self.names[name]
            mapped[full] = f"{mapped[full]}, {ours}" if full in mapped else ours
        for name, full in self.names.items():
            if full not in mapped:
                raise self.unexpected(name)
        return found, mapped


def _converted(
    part: CheckpointPart,
    module: type[MotionVAE] | type[GuoEvaluator],
    table: Mapping[str, str],
    kind: str,
    config: Any,
    statistics: Mapping[str, Tensor],
) -> Converted:
    """The part as a folder's content; MotionGPT3Error where a size in `config` is out of bounds."""

    def make() -> nn.Module:
        return module(parse_config(type(config), asdict(config)))

    found, mapped = part.collect(make, lambda ours: _renamed(ours, table), statistics)
    ignored = [name for name in part.tensors if name not in mapped]
    return Converted({"format": 1, kind: asdict(config)}, found, mapped, ignored)


def _feature_statistics(mean: Tensor, std: Tensor, features: int) -> dict[str, Tensor]:
    for what, values in (("means", mean), ("deviations", std)):
        if values.shape != (features,):
            raise MotionGPT3Error(f"the {what} are {values.numel()} numbers; this checkpoint needs {features}")
    if not (std > 0).all():
        raise MotionGPT3Error("the deviations must be above 0; are the means and deviations swapped?")
    return {"feature_mean": mean.float(), "feature_std": std.float()}


def _without_copies(part: CheckpointPart) -> tuple[CheckpointPart, list[str]]:
    """The part without further names of the word embeddings and without what is never used."""
    words = part.get("language_model.transformer.wte.weight")
    copies = [f"language_model.{name}" for name in TIED]
    for name in copies:
        if part.get(name) is not words and not torch.equal(part.get(name), words):
            raise _misfit(f"{part.names[name]} is not the table of words")
    part.numbers(UNUSED)
    dropped = [*copies, UNUSED]
    rest = {name: full for name, full in part.names.items() if name not in dropped}
    return CheckpointPart(part.tensors, rest), [part.names[name] for name in dropped]


def _sizes(part: CheckpointPart, prefix: str, vae: dict[str, Any], guided: bool) -> MotionGPT3Config:
    width = part.size("language_model.pre_processors.1.weight", 2, 1)
    queries, rest = divmod(part.size("motion_und_head.layers.weight", 2, 0), max(width, 1))
    if rest or part.size("motion_und_head.layers.weight", 2, 1) != vae["latent_channels"]:
        raise part.unlike("motion_und_head.layers.weight", (max(queries, 1) * width, vae["latent_channels"]))
    head = HeadConfig(
        queries=queries,
        hidden=width,
        latent_tokens=1,
        latent_channels=vae["latent_channels"],
        width=part.size("diffloss.net.input_proj.weight", 2, 0),
        depth=_count(part, "diffloss.net.res_blocks."),
        pool_heads=POOL_HEADS,
        pool_mlp=part.size("diffloss.net.cond_embed.hid_encoder_layer.linear1.weight", 2, 0),
        positions=part.size("diffloss.net.cond_embed.hid_pos.pe", 3, 0),
        dropout=DROPOUT,
        objective="epsilon",
        condition_dropping=0.1 if guided else 0.0,
    )
    config = MotionGPT3Config(
        backbone="gpt2",
        prompt_style="plain",
        motion_width=width,
        motion_mlp=part.size(f"{prefix}h.0.mlp.fn.1.c_fc.weight", 2, 1),
        motion_dropout=DROPOUT,
        queries=queries,
        interface="holders",
        stage=3,
        vae=VAEConfig(**vae),
        head=head,
        guidance=GUIDANCE if guided else 1.0,
        steps=STEPS["default"],
    )
    return MotionGPT3Config.from_dict(asdict(config))  # checks every number


def _text_settings(
    part: CheckpointPart, prefix: str, tokenizer: Tokenizer, heads: int | None, new: int, mlp: str
) -> dict[str, Any]:
    """config.json of GPT-2, whose table of words has `new` rows of ours at its end."""
    size, width = part.size(f"{prefix}wte.weight", 2, 0) - new, part.size(f"{prefix}wte.weight", 2, 1)
    if size not in (tokenizer.get_vocab_size(False), tokenizer.get_vocab_size()):
        raise MotionGPT3Error(
            f"the tokenizer has {tokenizer.get_vocab_size()} words and this checkpoint {size}: "
            "give the tokenizer of the GPT-2 it was built from"
        )
    end = tokenizer.token_to_id(TEXT_END)
    return {
        "model_type": "gpt2",
        "vocab_size": size,
        "n_positions": part.size(f"{prefix}wpe.weight", 2, 0),
        "n_embd": width,
        "n_layer": _count(part, f"{prefix}h."),
        "n_head": heads or max(width // 64, 1),
        "n_inner": part.size(f"{prefix}h.0.{mlp}.weight", 2, 1),
        "eos_token_id": size - 1 if end is None else end,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
    }


def _count(part: CheckpointPart, prefix: str) -> int:
    """How many layers there are whose names go on with a number after `prefix`."""
    layers = {name.removeprefix(prefix).partition(".")[0] for name in part.names if name.startswith(prefix)}
    if not layers:
        raise _misfit(f"{prefix}* is missing")
    if len(layers) > MAX_LAYERS:
        raise _misfit(f"{prefix}* are {len(layers)} layers")
    return len(layers)


def _official_name(ours: str) -> str:
    """The official name of a tensor of ours."""
    for stream, prefix in enumerate(("backbone.stream.", "motion.")):
        if not ours.startswith(prefix):
            continue
        part, _, rest = ours.removeprefix(prefix).partition(".")
        if part == "positions":
            return "language_model.transformer.wpe.weight"
        if part == "norm":
            return f"language_model.transformer.ln_f.fn.{stream}.{rest}"
        number, name, kind = rest.split(".")
        return f"language_model.transformer.h.{number}.{LAYER_NAMES[name].format(stream)}.{kind}"
    if ours.startswith("head.blocks."):
        _, _, number, name, rest = ours.split(".", 4)
        return f"diffloss.net.res_blocks.{number}.{BLOCK_NAMES[name]}.{rest}"
    return _renamed(ours, MODEL_NAMES)


def _formed(ours: str, tensor: Tensor) -> Tensor:
    """An official tensor as ours is laid out; nothing shares memory."""
    if ours == "backbone.embedding":
        return tensor[:-2]
    if ours == "backbone.special":
        return tensor[-2:].clone()
    if ours.endswith("_positions") and tensor.dim() == 3:
        return tensor.squeeze(1)  # learned positions (n, 1, width)
    if ours == "motion.positions":
        return tensor.clone()
    if tensor.dim() == 2 and re.match(r"(backbone\.stream|motion)\.layers\..*weight$", ours):
        return tensor.t()  # GPT-2 stores its matrices as (in, out)
    return tensor


def _misfit(what: str) -> MotionGPT3Error:
    return MotionGPT3Error(f"this checkpoint does not fit: {what}")


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """The name with a beginning that is in the table replaced."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
