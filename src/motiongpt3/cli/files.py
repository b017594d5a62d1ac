"""The commands on motion files and models that are there: export, retarget, info and search."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from motiongpt3.cli.options import (
    CountArg,
    CutOptions,
    FileArg,
    FileOptions,
    ModelOptions,
    OutArg,
    PostprocessOptions,
    ReadingOptions,
    RecordingOptions,
    check_prompts,
    output_files,
    table,
    tell,
    writable,
    written_entry,
)
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import read, save, suffix_of
from motiongpt3.motion.motion import Motion

MotionArg = Annotated[str, Arg("MOTION")]


def export(
    motion: MotionArg,
    *,
    out: Annotated[list[str], Arg("FILE", flags="-o --out", repeat=True)] | None = None,
    json: bool = False,
    fbx: FileArg | None = None,
    reading: ReadingOptions,
    cut: CutOptions,
    files: FileOptions,
    postprocess: PostprocessOptions,
) -> None:
    """Write a motion file in other formats, cut and finished if asked.

    Args:
        motion: the file to read: {readable}
        out: file to write; its suffix decides the format ({writable}); may be repeated
        json: print what was written as JSON
        fbx: an FBX file to write with Blender

    Examples:
      motiongpt3 export walk.npz -o walk.glb -o walk.mp4
      motiongpt3 export walk.bvh --fix-feet --loop --in-place --fps 30 -o cycle.bvh --bvh-dialect mixamo
      motiongpt3 export walk.npz --trim 1.5:4 --mirror --speed 1.2 --ground -o part.bvh
      motiongpt3 export walk.npz -o walk.smpl.npz          SMPL-shaped poses, as in AMASS
      motiongpt3 export walk.npz --fbx walk.fbx            by Blender, where it is installed
    """
    outs = [writable(path) for path in out or []]
    if not outs and not fbx:
        raise MotionGPT3Error("nothing to write: name a file with -o or --fbx (see motiongpt3 export --help)")

    from motiongpt3.formats.fbx import find_blender

    blender = find_blender() if fbx else None
    with output_files(*outs, fbx or None):
        raw = cut.apply(reading.load(motion))
        made = postprocess.apply(raw)
        written = [_written(save(made, path, **vars(files)), made) for path in outs]
        if fbx and blender:
            written.append(_written_fbx(made, fbx, blender))
        changed = postprocess.changes([raw], [made])
    lines = []
    for entry in written:
        error = f"; joints {entry['fk_error_mm']:.1f} mm off" if "fk_error_mm" in entry else ""
        lines.append(f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s{error}")
    tell(json, {"files": written, **changed}, *lines, *postprocess.table(changed))


def _written(file: str | Path, motion: Motion) -> dict[str, Any]:
    entry = written_entry(file, motion)
    if suffix_of(Path(file)) == ".smpl.npz":
        from motiongpt3.formats.smpl import smpl_poses

        entry["fk_error_mm"] = 1000 * smpl_poses(motion).error
    return entry


def _written_fbx(motion: Motion, out: str, blender: str) -> dict[str, Any]:
    from motiongpt3.formats.fbx import glb_to_fbx

    with tempfile.TemporaryDirectory() as folder:
        glb_to_fbx(save(motion, Path(folder) / "motion.glb"), Path(out), motion.fps, blender)
    return _written(Path(out), motion)


def retarget(
    motion: MotionArg,
    *,
    rig: FileArg,
    out: OutArg,
    bones: Annotated[str | None, Arg("YAML")] = None,
    root_motion: bool = False,
    reading: RecordingOptions,
    postprocess: PostprocessOptions,
    json: bool = False,
) -> None:
    """Put a motion on a rigged character: a .glb or .vrm file with a skin.

    Args:
        motion: a motion file of any format that can be read
        rig: the character, .glb or .vrm
        out: the file to write, .glb or .vrm
        bones: which bone is which joint, where it is not found by itself
        root_motion: let the bone above the pelvis go and turn with the figure, as Unreal wants it
        json: print what was done as JSON

    Examples:
      motiongpt3 retarget walk.npz --rig hero.glb -o hero_walks.glb
      motiongpt3 retarget walk.bvh --rig hero.glb --fix-feet --in-place --loop -o hero_walks.glb
      motiongpt3 retarget walk.npz --rig robot.glb --bones robot.yaml -o robot_walks.glb
          robot.yaml: lines of JOINT: BONE, such as "l_hip: Thigh_L", for what is not found by itself
    """
    from motiongpt3.characters.bone_names import load_map
    from motiongpt3.formats.glb import load_character, write_character

    with output_files(out):
        raw = reading.load(motion)
        character = load_character(rig, load_map(Path(bones)) if bones else None)
        made = postprocess.apply(raw)
        played = write_character(made, character, out, root_motion)
        changed = postprocess.changes([raw], [made])
    how = character.bones.how
    found = {joint: character.nodes.names[node] for joint, node in character.bones.nodes.items()}
    errors = {"error_degrees": played.error, "errors_degrees": played.errors}
    worst = max(played.errors, key=lambda name: played.errors[name])
    tell(
        json,
        {**_written(out, made), "bones_by": how, "bones": found, "scale": played.scale, **errors, **changed},
        f"{out}: {len(made)} frames, {made.seconds:.2f} s",
        f"bones: {len(found)} of 22 joints, names: {how}; legs {played.scale:.3g} times as long",
        f"joint directions: {played.error:.1f} degrees off on average; most {worst}, {played.errors[worst]:.1f}",
        *postprocess.table(changed),
    )


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


def info(what: Annotated[str, Arg("FILE|MODEL")] | None = None, *, reading: ReadingOptions, json: bool = False) -> None:
    """Tell what a motion file or a model holds.

    Args:
        what: a motion file, a model folder or a hub id; the model of this package if left out
        json: print it as JSON

    Examples:
      motiongpt3 info clip.bvh
      motiongpt3 info            the model of this package
      motiongpt3 info runs/stage1/model --json
    """
    model = what is None or _is_model(Path(what))
    facts = _model_facts(ModelOptions(what).folder()) if model else _motion_facts(Path(what or ""), reading)
    tell(json, facts, *_lines(facts))


def _is_model(path: Path) -> bool:
    """A folder, or the form `owner/name` of a hub id: nothing here, and no suffix."""
    return path.is_dir() or (not path.exists() and not path.suffix and len(path.parts) == 2 and not path.is_absolute())


def _motion_facts(file: Path, options: ReadingOptions) -> dict[str, Any]:
    """Length, extent and quality of a motion file.

    Raises:
        MotionGPT3Error: it cannot be read.
    """
    from motiongpt3.motion.quality import UNITS, measure

    reading = read(file, options.options())
    motion = reading.motion
    quality = measure(motion).as_dict()
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
        **reading.facts,
        "notes": [*reading.notes, *reading.doubts],
        "bones": dict(reading.bones),
        "box_min_m": [round(float(value), 3) for value in low],
        "box_max_m": [round(float(value), 3) for value in high],
        "path_m": round(float(np.linalg.norm(np.diff(ground, axis=0), axis=-1).sum()), 3),
        "displacement_m": round(float(np.linalg.norm(ground[-1] - ground[0])), 3),
        "quality": {f"{name} ({UNITS[name]})": round(value, 4) for name, value in quality.items()},
    }


def _model_facts(folder: Path) -> dict[str, Any]:
    """Sizes, parts, language model and licence of a model, from its files' headers; no weights are loaded.

    Raises:
        MotionGPT3Error: it is no model, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.serialization import WEIGHTS, read_config

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


def _card(folder: Path) -> dict[str, Any]:
    """The YAML header of the model card; empty if there is none."""
    from motiongpt3.serialization import CARD, MAX_CONFIG_BYTES
    from motiongpt3.untrusted import load_yaml, read_text

    try:
        text = read_text(folder / CARD, MAX_CONFIG_BYTES)
        header = load_yaml(text.split("---", 2)[1], CARD) if text.startswith("---") else {}
    except (MotionGPT3Error, IndexError):
        return {}
    return header if isinstance(header, dict) else {}


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")] if value else []
        elif name == "notes":
            lines += [f"{indent}{'note':<{32 - len(indent)}}{note}" for note in value]
        else:
            shown = "-" if value is None else f"{value:,}" if type(value) is int else value
            lines.append(f"{indent}{name:<{32 - len(indent)}}{shown}")
    return lines


def search(
    text: Annotated[str, Arg("TEXT")],
    *,
    folder: Annotated[str, Arg("FOLDER", flags="--in")],
    top: CountArg = 10,
    evaluator: Annotated[str, Arg("NAME|FOLDER")] = "mocap",
    reading: ReadingOptions,
    json: bool = False,
) -> None:
    """Rank the motion files of a folder by how well they show what a sentence says.

    Args:
        text: what should happen in the motion
        folder: folder; those within too
        top: how many to show
        evaluator: mocap, or what `train evaluator` wrote
        json: print them as JSON

    Examples:
      motiongpt3 search "someone waves" --in clips
      motiongpt3 search "a person walks backward" --in clips --top 3 --json
    """
    check_prompts([text])

    from motiongpt3.evaluation.search import motion_files, search_motions
    from motiongpt3.evaluation.tmr import load_evaluator

    with tqdm(motion_files(folder), desc="reading", unit="file", disable=None, leave=False) as files:

        def skip(file: Path, reason: str) -> None:
            tqdm.write(f"motiongpt3: skipped {file}: {' '.join(reason.split())}", file=sys.stderr)

        found = search_motions(load_evaluator(evaluator), text, files, skip, reading.options())[:top]
    facts = [{"file": str(one.file), "seconds": one.seconds, "similarity": one.similarity} for one in found]
    rows = [[str(one.file), f"{one.seconds:.1f}", f"{one.similarity:.3f}"] for one in found]
    tell(json, facts, table(["file", "seconds", "similarity"], rows))
