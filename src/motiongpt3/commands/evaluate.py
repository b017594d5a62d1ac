"""`motiongpt3 evaluate prompts`, `evaluate captions`, `evaluate vae` and `evaluate quality`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jsonargparse.typing import NonNegativeInt, PositiveInt
from tqdm import tqdm

from motiongpt3.commands.options import Parser, add_model_options, load_model, output_files
from motiongpt3.commands.tables import table
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path

if TYPE_CHECKING:
    from motiongpt3.data.dataset import PackedClips
    from motiongpt3.models.vae import MotionVAE
    from motiongpt3.motion.motion import Motion

Split = Literal["train", "val", "test"]


def prompts(argv: Sequence[str]) -> int:
    """The prompt check."""
    parser = Parser(
        "evaluate prompts",
        "Generate prompts with several seeds and judge by kinematics whether the motions do what the prompts say.",
        "  motiongpt3 evaluate prompts\n  motiongpt3 evaluate prompts --model runs/stage1/model --kind all "
        "--json prompts.json\n",
    )
    add_model_options(parser)
    parser.add_argument(
        "--kind",
        type=Literal["plain", "free", "all"],
        default="plain",
        metavar="plain|free|all",
        help="captions as in the training data, free wording, or both",
    )
    parser.add_argument("--seeds", type=PositiveInt, default=4, metavar="N", help="motions per prompt, seeds 0 … N-1")
    parser.add_argument("--json", metavar="FILE", help="also write every verdict to this file")
    options = parser.parse_args(argv)

    from motiongpt3.evaluation.prompts import BARS, Kind, evaluate_prompts, load_prompts
    from motiongpt3.evaluation.provenance import made_with

    file = None if options.json is None else Path(options.json)
    kinds: list[Kind] = [kind for kind in get_args(Kind) if options.kind in (kind, "all")]
    reports = {}
    with output_files([file] if file else []):
        model = load_model(options.model, options.device, options.profile)
        cases = {kind: load_prompts(kind) for kind in kinds}
        total = options.seeds * sum(map(len, cases.values()))
        with tqdm(total=total, desc="generating", unit="motion", disable=None) as bar:

            def generate(texts: list[str], seconds: float, seed: int) -> list[Motion]:
                made = model.generate(texts, seconds=seconds, seed=seed)
                bar.update(len(texts))
                return made if isinstance(made, list) else [made]

            for kind in kinds:
                reports[kind] = evaluate_prompts(generate, cases[kind], range(options.seeds))
        if file:
            with atomic_path(file) as temporary:
                content: dict[str, Any] = {kind: json.loads(report.to_json()) for kind, report in reports.items()}
                content["made_with"] = made_with(options.model)
                temporary.write_text(json.dumps(content, indent=2) + "\n")
    for kind, report in reports.items():
        print(f"{kind} prompts (a good model reaches {BARS[kind]:.0%})\n{report.table()}")
    return 0


def captions(argv: Sequence[str]) -> int:
    """Captions of recorded clips."""
    parser = Parser(
        "evaluate captions",
        "Caption recorded clips and judge the words: the action by a list of synonyms, left and right, forward and "
        "backward by what people wrote about the clip.",
        "  motiongpt3 evaluate captions --data data/mocap\n  motiongpt3 evaluate captions --data data/mocap --judge\n",
    )
    add_model_options(parser)
    _add_data_options(parser, "test")
    parser.add_argument("--clips", type=PositiveInt, metavar="N", help="only N clips, drawn with seed 0")
    parser.add_argument(
        "--judge",
        action="store_true",
        help="without a model: how the judge judges people's own captions, those of other actions and swapped ones",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the numbers and every caption to this file")
    options = parser.parse_args(argv)

    from motiongpt3.data.dataset import PackedClips
    from motiongpt3.evaluation.caption_words import Directions, Labelled, judge_captions, validate_judge
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.motion.motion import Motion

    file = None if options.json is None else Path(options.json)
    pack = PackedClips.open(options.data)
    words = [Labelled(clip.captions, clip.short) for clip in pack.clips]
    rows = [row for row in _rows(pack, options.split) if words[row].references]
    if not rows:
        raise MotionGPT3Error(f"no clip of split {options.split} has a caption")
    if options.clips:
        rows = sorted(np.random.default_rng(0).permutation(rows)[: options.clips].tolist())
    directions = Directions(words)
    chosen = [words[row] for row in rows]
    with output_files([file] if file else []):
        if options.judge:
            verdict = validate_judge(chosen, directions)
            content, lines = asdict(verdict), verdict.table()
        else:
            model = load_model(options.model, options.device, options.profile)
            most = int(model.max_seconds * pack.fps)
            written: list[str] = []
            for start in tqdm(range(0, len(rows), 32), "captioning", unit="batch", disable=None):
                part = [Motion(pack.clip_joints(row)[:most], pack.fps) for row in rows[start : start + 32]]
                written += model.caption(part)
            report = judge_captions(written, chosen, directions)
            every = [
                {"clip": pack.clips[row].id, "label": clip.label, "caption": text, "references": list(clip.references)}
                for row, clip, text in zip(rows, chosen, written, strict=True)
            ]
            made = made_with(options.model, pack, options.split, rows)
            content = {"split": options.split, **report.as_dict(), "captions": every, "made_with": made}
            lines = f"split {options.split}, clips cut at {model.max_seconds:g} s\n{report.table()}"
        if file:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")
    print(lines)
    return 0


def vae(argv: Sequence[str]) -> int:
    """Reconstruction errors."""
    parser = Parser(
        "evaluate vae",
        "Encode and decode recorded clips with a motion VAE and print the mean joint errors, per source.",
        "  motiongpt3 evaluate vae --data data/mocap\n  motiongpt3 evaluate vae --vae runs/vae/vae --data data/mocap "
        "--split test --json\n",
    )
    parser.add_argument(
        "--vae", metavar="FOLDER", help="a VAE folder or a model folder; the model of this package if left out"
    )
    _add_data_options(parser, "val")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.data.batch import ClipBank
    from motiongpt3.data.dataset import PackedClips
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.training.vae import reconstruction_errors

    pack = PackedClips.open(options.data)
    rows = _rows(pack, options.split)
    model = _load_vae(options.vae)
    sources = sorted({pack.clips[row].source for row in rows})
    errors: dict[str, Any] = {}
    for source in tqdm(sources, "reconstructing", unit="source", disable=None):
        clips = [clip for clip in pack.clips if clip.source == source]
        errors[source] = reconstruction_errors(model, ClipBank([replace(pack, clips=clips)], options.split))
    errors["all"] = {
        key: np.concatenate([parts[key].numpy() for parts in errors.values()]) for key in errors[sources[0]]
    }
    numbers = {
        source: {"clips": len(e["global_mm"]), **{key: float(value.mean()) for key, value in e.items()}}
        for source, e in errors.items()
    }
    if options.json:
        made = made_with(options.vae, pack, options.split, rows)
        print(json.dumps({"split": options.split, "sources": numbers, "made_with": made}, indent=2))
        return 0
    lines = [
        [source or "-", str(n["clips"]), f"{n['root_aligned_mm']:.1f}", f"{n['global_mm']:.1f}"]
        for source, n in numbers.items()
    ]
    print(f"split {options.split}: mean over clips of the mean joint error in mm; clips are cut at the VAE's maximum")
    print(table(["source", "clips", "root-aligned", "global"], lines))
    return 0


def quality(argv: Sequence[str]) -> int:
    """Physical quality of real and generated motions."""
    parser = Parser(
        "evaluate quality",
        "Measure recorded clips, and motions generated from the same captions with the same lengths, side by side.",
        "  motiongpt3 evaluate quality --data data/mocap --clips 200\n",
    )
    add_model_options(parser)
    _add_data_options(parser, "test")
    parser.add_argument("--clips", type=PositiveInt, default=100, metavar="N", help="clips to draw, at most")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="of the draw and of the motions")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.data.dataset import PackedClips
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.motion.motion import Motion
    from motiongpt3.motion.quality import UNITS, measure, summary

    pack = PackedClips.open(options.data)
    rows = [row for row in _rows(pack, options.split) if pack.clips[row].captions]
    if not rows:
        raise MotionGPT3Error(f"no clip of split {options.split} has a caption")
    model = load_model(options.model, options.device, options.profile)
    order = np.random.default_rng(options.seed).permutation(len(rows))[: options.clips]
    most = int(model.max_seconds * pack.fps)
    real, made = [], []
    for number in tqdm(sorted(order), "generating", unit="clip", disable=None):
        clip = pack.clips[rows[number]]
        joints = pack.clip_joints(rows[number])[:most]
        real.append(measure(Motion(joints, pack.fps)))
        made.append(measure(model.generate(clip.captions[0], seconds=len(joints) / pack.fps, seed=options.seed)))
    sides = {"real": summary(real), "generated": summary(made)}
    if options.json:
        content = {"clips": len(real), **{name: side.as_dict() for name, side in sides.items()}}
        chosen = [rows[number] for number in order]
        content["made_with"] = made_with(options.model, pack, options.split, chosen)
        print(json.dumps(content, indent=2))
        return 0
    lines = [
        [f"{f.name} ({UNITS[f.name]})", *(f"{getattr(side, f.name):.3f}" for side in sides.values())]
        for f in fields(sides["real"])
    ]
    print(f"{len(real)} clips of split {options.split}, clips cut at {model.max_seconds:g} s")
    print(table(["mean of", *sides], lines))
    return 0


def _add_data_options(parser: Parser, split: Split) -> None:
    parser.add_argument("--data", required=True, metavar="PACKED", help="a prepared folder or its packed file")
    parser.add_argument("--split", type=Split, default=split, metavar="train|val|test", help="which clips")


def _rows(pack: PackedClips, split: str) -> list[int]:
    rows = pack.split(split)
    if not rows:
        raise MotionGPT3Error(f"{pack.path} has no clips of split {split}")
    return rows


def _load_vae(folder: str | None) -> MotionVAE:
    """The VAE of a folder that `train vae` wrote, or of a whole model's folder."""
    from motiongpt3.checkpoints.folder import load_weights, parse_config, read_config
    from motiongpt3.models.pretrained import EMBEDDED
    from motiongpt3.models.vae import MotionVAE, VAEConfig

    if folder is None and not EMBEDDED.is_dir():
        raise MotionGPT3Error("this installation comes without a model; name one with --vae")
    path = EMBEDDED if folder is None else Path(folder)
    config = read_config(path)
    model = MotionVAE(parse_config(VAEConfig, config.get("vae")))
    load_weights(model, path, prefix="vae." if "motion_width" in config else "")
    return model.eval()
