"""`motiongpt3 info`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from motiongpt3.commands.options import Parser
from motiongpt3.errors import MotionGPT3Error

PARTS = {
    "motion": "motion stream",
    "queries": "queries",
    "holders": "holders",
    "embed_length": "length head",
    "predict_length": "length head",
    "head": "diffusion head",
    "vae": "motion VAE",
    "backbone": "text stream",
}
"""First word of a tensor's name -> the part of the model it belongs to."""
HEADER = ("format", "backbone_identity", "includes_backbone")
"""What config.json holds besides the settings of MotionGPT3Config."""


def info(argv: Sequence[str]) -> int:
    """What a motion file or a model holds."""
    parser = Parser(
        "info",
        "Tell what a motion file or a model holds.",
        "  motiongpt3 info clip.bvh\n  motiongpt3 info            the model of this package\n"
        "  motiongpt3 info runs/stage1/model --json\n",
    )
    parser.add_argument(
        "what",
        nargs="?",
        metavar="FILE|MODEL",
        help="a motion file, a model folder or a hub id; the model of this package if left out",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parser.parse_args(argv)
    path = None if options.what is None else Path(options.what)
    facts = model_facts(path) if path is None or _is_model(path) else motion_facts(path)
    print(json.dumps(facts, indent=2) if options.json else "\n".join(_lines(facts)))
    return 0


def _is_model(path: Path) -> bool:
    """A folder, or the form `owner/name` of a hub id: nothing here, and no suffix."""
    return path.is_dir() or (not path.exists() and not path.suffix and len(path.parts) == 2 and not path.is_absolute())


def motion_facts(file: Path) -> dict[str, Any]:
    """Length, extent and quality of a motion file.

    Raises:
        MotionGPT3Error: it cannot be read.
    """
    from motiongpt3.formats import load
    from motiongpt3.motion.quality import UNITS, measure

    motion = load(file)
    quality = measure(motion)
    low, high = motion.joints.min((0, 1)), motion.joints.max((0, 1))
    ground = motion.joints[:, 0, [0, 2]]
    return {
        "file": str(file),
        "frames": len(motion),
        "fps": motion.fps,
        "seconds": round(motion.seconds, 3),
        "joints": len(motion.skeleton),
        "caption": motion.caption,
        "name": motion.name,
        "box_min_m": [round(float(value), 3) for value in low],
        "box_max_m": [round(float(value), 3) for value in high],
        "path_m": round(float(np.linalg.norm(np.diff(ground, axis=0), axis=-1).sum()), 3),
        "displacement_m": round(float(np.linalg.norm(ground[-1] - ground[0])), 3),
        "quality": {f"{f.name} ({UNITS[f.name]})": round(getattr(quality, f.name), 4) for f in fields(quality)},
    }


def model_facts(model: Path | None) -> dict[str, Any]:
    """Sizes, parts, language model and licence of a model, from its files' headers; no weights are loaded.

    Raises:
        MotionGPT3Error: it is no model, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    from motiongpt3.checkpoints.folder import WEIGHTS, read_config
    from motiongpt3.models.config import MotionGPT3Config

    folder = _model_folder(model)
    config = read_config(folder)
    if "motion_width" in config:  # a whole model, not a VAE alone: refuse what is none of ours
        MotionGPT3Config.from_dict({k: v for k, v in config.items() if k not in HEADER})
    weights = folder / WEIGHTS
    alone = "motion VAE" if "vae" in config else "evaluator"
    parameters: Counter[str] = Counter()
    try:
        with safe_open(weights, "np") as file:
            for name in file.keys():  # noqa: SIM118 it is no dict
                part = name.partition(".")[0]
                size = int(np.prod(file.get_slice(name).get_shape(), dtype=object))
                parameters[PARTS.get(part, part) if "motion_width" in config else alone] += size
        size_mb = round(weights.stat().st_size / 1e6, 1)
    except (OSError, SafetensorError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged: {error}"
        raise MotionGPT3Error(f"{weights} {reason}") from None
    card = _card(folder)
    facts: dict[str, Any] = {
        "model": str(folder),
        "weights_mb": size_mb,
        "parameters": dict(parameters),
        "license": card.get("license_name") or card.get("license"),
        "training_data": card.get("datasets"),
    }
    if "motion_width" in config:
        identity = config.pop("backbone_identity", None) or {}
        facts["backbone"] = {
            "name": config.get("backbone"),
            "sha256": identity.get("sha256"),
            "included": config.pop("includes_backbone", False),
        }
        facts["max_seconds"] = round(config["vae"]["max_frames"] / config["fps"], 3)
    return {**facts, "config": config}


def _model_folder(model: Path | None) -> Path:
    from motiongpt3.models.pretrained import EMBEDDED, download

    if model is None:
        if not EMBEDDED.is_dir():
            raise MotionGPT3Error("this installation comes without a model; name one")
        return EMBEDDED
    if model.is_dir():
        return model
    return download(model.as_posix())


def _card(folder: Path) -> dict[str, Any]:
    """The YAML header of the model card; empty if there is none."""
    from motiongpt3.checkpoints.folder import CARD

    try:
        text = (folder / CARD).read_text("utf-8")[:100_000]
        header = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else {}
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return {}
    return header if isinstance(header, dict) else {}


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            shown = "-" if value is None else f"{value:,}" if type(value) is int else value
            lines.append(f"{indent}{name:<{32 - len(indent)}}{shown}")
    return lines
