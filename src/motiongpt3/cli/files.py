"""`motiongpt3 export`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse.typing import PositiveInt
from tqdm import tqdm

from motiongpt3.cli.options import (
    Parser,
    add_finish_options,
    add_format_options,
    add_output_option,
    changes,
    changes_table,
    check_prompts,
    finished,
    output_files,
    table,
    writable,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, readable_suffixes, save, suffix_of
from motiongpt3.motion.motion import Motion

EXAMPLES = """
  motiongpt3 export walk.npz -o walk.glb -o walk.mp4
  motiongpt3 export walk.bvh --fix-feet --loop --in-place --fps 30 -o cycle.bvh --bvh-dialect mixamo
  motiongpt3 export walk.npz -o walk.smpl.npz          SMPL-shaped poses, as in AMASS
  motiongpt3 export walk.npz --fbx walk.fbx            by Blender, where it is installed
"""


def export(argv: Sequence[str]) -> int:
    """A motion file in other formats."""
    parser = Parser("export", "Write a motion file in other formats, finished if asked.", EXAMPLES)
    parser.add_argument("motion", metavar="MOTION", help=f"the file to read: {', '.join(readable_suffixes())}")
    add_output_option(parser, required=False)
    parser.add_argument("--fbx", metavar="FILE", help="an FBX file to write with Blender")
    add_format_options(parser)
    add_finish_options(parser)
    options = parser.parse_args(argv)
    outs = [writable(out) for out in options.out or []]
    fbx = Path(options.fbx) if options.fbx else None
    if not outs and fbx is None:
        raise MotionGPT3Error("nothing to write: name a file with -o or --fbx (see motiongpt3 export --help)")

    from motiongpt3.formats.fbx import find_blender

    blender = find_blender() if fbx else None
    with output_files([*outs, *([fbx] if fbx else [])]):
        raw = load(options.motion)
        motion = finished(raw, options)
        written = [_written(motion, out, options.bvh_dialect, options.body) for out in outs]
        if fbx and blender:
            written.append(_written_fbx(motion, fbx, blender))
        changed = changes([raw], [motion], options)
    if options.json:
        print(json.dumps({"files": written} | ({"finish": changed} if changed else {}), indent=2))
        return 0
    for entry in written:
        error = f"; joints {entry['fk_error_mm']:.1f} mm off" if "fk_error_mm" in entry else ""
        print(f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s{error}")
    if changed:
        print(changes_table(changed))
    return 0


def _written(motion: Motion, out: Path, dialect: Any, body: Any) -> dict[str, Any]:
    entry = {"file": str(save(motion, out, dialect, body)), "frames": len(motion), "seconds": motion.seconds}
    if suffix_of(out) == ".smpl.npz":
        from motiongpt3.formats.smpl import smpl_poses

        entry["fk_error_mm"] = 1000 * smpl_poses(motion).error
    return entry


def _written_fbx(motion: Motion, out: Path, blender: str) -> dict[str, Any]:
    from motiongpt3.formats.fbx import glb_to_fbx

    with tempfile.TemporaryDirectory() as folder:
        glb_to_fbx(save(motion, Path(folder) / "motion.glb"), out, motion.fps, blender)
    return {"file": str(out), "frames": len(motion), "seconds": motion.seconds}


# `motiongpt3 retarget`.

EXAMPLES_retarget = """
  motiongpt3 retarget walk.npz --rig hero.glb -o hero_walks.glb
  motiongpt3 retarget walk.bvh --rig hero.glb --fix-feet --in-place --loop -o hero_walks.glb
  motiongpt3 retarget walk.npz --rig robot.glb --bones robot.yaml -o robot_walks.glb
      robot.yaml: lines of JOINT: BONE, such as "l_hip: Thigh_L", for what is not found by itself
"""


def retarget(argv: Sequence[str]) -> int:
    """A motion on one's own character."""
    parser = Parser(
        "retarget", "Put a motion on a rigged character: a .glb or .vrm file with a skin.", EXAMPLES_retarget
    )
    parser.add_argument("motion", metavar="MOTION", help="a motion file of any format that can be read")
    parser.add_argument("--rig", required=True, metavar="FILE", help="the character, .glb or .vrm")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the file to write, .glb or .vrm")
    parser.add_argument("--bones", metavar="YAML", help="which bone is which joint, where it is not found by itself")
    add_finish_options(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.characters.bone_names import load_map
    from motiongpt3.formats import glb as rigged

    with output_files([Path(options.out)]):
        raw = load(options.motion)
        character = rigged.load_character(options.rig, load_map(Path(options.bones)) if options.bones else None)
        motion = finished(raw, options)
        played = rigged.write_character(motion, character, options.out)
        changed = changes([raw], [motion], options)
    worst = max(played.errors, key=lambda name: played.errors[name])
    if options.json:
        facts = {
            "file": options.out,
            "frames": len(motion),
            "seconds": motion.seconds,
            "bones_by": character.bones.how,
            "bones": {joint: character.nodes.names[node] for joint, node in character.bones.nodes.items()},
            "scale": played.scale,
            "error_degrees": played.error,
            "errors_degrees": played.errors,
        }
        print(json.dumps(facts | ({"finish": changed} if changed else {}), indent=2))
        return 0
    print(f"{options.out}: {len(motion)} frames, {motion.seconds:.2f} s")
    joints = len(character.bones.nodes)
    print(f"bones: {joints} of 22 joints, names: {character.bones.how}; legs {played.scale:.3g} times as long")
    print(f"joint directions: {played.error:.1f} degrees off on average; most {worst}, {played.errors[worst]:.1f}")
    if changed:
        print(changes_table(changed))
    return 0


# `motiongpt3 info`.

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

    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.serialization import WEIGHTS, read_config

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
    from motiongpt3.models.motiongpt3 import EMBEDDED, download

    if model is None:
        if not EMBEDDED.is_dir():
            raise MotionGPT3Error("this installation comes without a model; name one")
        return EMBEDDED
    if model.is_dir():
        return model
    return download(model.as_posix())


def _card(folder: Path) -> dict[str, Any]:
    """The YAML header of the model card; empty if there is none."""
    from motiongpt3.serialization import CARD

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


# `motiongpt3 search`.


def search(argv: Sequence[str]) -> int:
    """Motion files that show what a sentence says."""
    parser = Parser(
        "search",
        "Rank the motion files of a folder by how well they show what a sentence says.",
        '  motiongpt3 search "someone waves" --in clips\n'
        '  motiongpt3 search "a person walks backward" --in clips --top 3 --json\n',
    )
    parser.add_argument("text", metavar="TEXT", help="what should happen in the motion")
    parser.add_argument("--in", dest="folder", required=True, metavar="FOLDER", help="folder; those within too")
    parser.add_argument("--top", type=PositiveInt, default=10, metavar="N", help="how many to show")
    parser.add_argument(
        "--evaluator", default="mocap", metavar="NAME|FOLDER", help="mocap, or what `train evaluator` wrote"
    )
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    options = parser.parse_args(argv)
    check_prompts([options.text])

    from motiongpt3.evaluation.search import motion_files, search_motions
    from motiongpt3.evaluation.tmr import load_evaluator

    files = motion_files(options.folder)
    with tqdm(files, desc="reading", unit="file", disable=None, leave=False) as bar:

        def skip(file: Path, reason: str) -> None:
            tqdm.write(f"motiongpt3: skipped {file}: {' '.join(reason.split())}", file=sys.stderr)

        found = search_motions(load_evaluator(options.evaluator), options.text, bar, skip)[: options.top]
    if options.json:
        facts = [{"file": str(one.file), "seconds": one.seconds, "similarity": one.similarity} for one in found]
        print(json.dumps(facts, indent=2))
    else:
        rows = [[str(one.file), f"{one.seconds:.1f}", f"{one.similarity:.3f}"] for one in found]
        print(table(["file", "seconds", "similarity"], rows))
    return 0
