"""`motiongpt3 evaluate prompts`, `evaluate captions`, `evaluate vae` and `evaluate quality`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from tqdm import tqdm

from motiongpt3.cli.options import (
    METRICS,
    Parser,
    add_model_options,
    load_model,
    output_files,
    settings_at_hand,
    table,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path

if TYPE_CHECKING:
    from motiongpt3.data.clips import PackedClips
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

    from motiongpt3.evaluation.checks.prompt_check import PROMPT_BARS, PromptKind, evaluate_prompts, load_prompts
    from motiongpt3.evaluation.provenance import made_with

    file = None if options.json is None else Path(options.json)
    kinds: list[PromptKind] = [kind for kind in get_args(PromptKind) if options.kind in (kind, "all")]
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
                content: dict[str, Any] = {kind: report.as_dict() for kind, report in reports.items()}
                content["made_with"] = made_with(options.model)
                temporary.write_text(json.dumps(content, indent=2) + "\n")
    for kind, report in reports.items():
        print(f"{kind} prompts (a good model reaches {PROMPT_BARS[kind]:.0%})\n{report.table()}")
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

    from motiongpt3.data.clips import PackedClips
    from motiongpt3.evaluation.checks.caption_check import Directions, Labelled, judge_captions, validate_judge
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
            content = {"split": options.split, **asdict(report), "captions": every, "made_with": made}
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

    from motiongpt3.data.bank import ClipBank
    from motiongpt3.data.clips import PackedClips
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

    from motiongpt3.data.clips import PackedClips
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
    from motiongpt3.models.motiongpt3 import EMBEDDED
    from motiongpt3.models.vae import MotionVAE, VAEConfig
    from motiongpt3.serialization import load_weights, parse_config, read_config

    if folder is None and not EMBEDDED.is_dir():
        raise MotionGPT3Error("this installation comes without a model; name one with --vae")
    path = EMBEDDED if folder is None else Path(folder)
    config = read_config(path)
    model = MotionVAE(parse_config(VAEConfig, config.get("vae")))
    load_weights(model, path, prefix="vae." if "motion_width" in config else "")
    return model.eval()


# `motiongpt3 evaluate t2m`, `m2t`, `predict` and `inbetween`.

TASKS = {
    "t2m": "Draw a motion for a caption of each recorded clip: does it fit the words, is it like the recordings?",
    "m2t": "Write a caption for each recorded clip: how close is it to what people wrote?",
    "predict": "Continue the beginning of each recorded clip: how far is it from how it went on?",
    "inbetween": "Fill the middle of each recorded clip: how far is it from what happened?",
}


def t2m(argv: Sequence[str]) -> int:
    """Text to motion."""
    return _evaluate("t2m", argv)


def m2t(argv: Sequence[str]) -> int:
    """Motion to text."""
    return _evaluate("m2t", argv)


def predict(argv: Sequence[str]) -> int:
    """Prediction."""
    return _evaluate("predict", argv)


def inbetween(argv: Sequence[str]) -> int:
    """In-between."""
    return _evaluate("inbetween", argv)


def _evaluate(task: Any, argv: Sequence[str]) -> int:
    options = _parser(task).parse_args(argv)

    from motiongpt3.evaluation.runner import evaluate, prepare_evaluation
    from motiongpt3.evaluation.session import EvaluationRequest
    from motiongpt3.models.motiongpt3 import download, read_settings

    request = EvaluationRequest(
        task,
        options.data,
        options.protocol,
        options.model,
        options.evaluator,
        options.words,
        options.profile,
        options.device,
        options.split,
        options.repeats,
        options.limit,
        options.seed,
        options.guidance,
        options.steps,
        options.processes,
        options.bertscore if task == "m2t" else None,
    )
    out = None if options.out is None else Path(options.out)
    plots = None if options.plots is None else Path(options.plots)
    if out is not None and out.suffix != ".json":
        raise MotionGPT3Error(f"the report is JSON: give -o a name that ends in .json, not {out.name!r}")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise MotionGPT3Error(f"--plots takes a folder, and {plots} is a file")
    config = settings_at_hand(options.model, options.profile)
    if config is None:
        config, *_ = read_settings(download(options.model), options.profile)
    prepared = prepare_evaluation(request, config)
    with output_files([out] if out else []), tqdm(desc=f"evaluating {task}", unit="clip", disable=None) as bar:

        def begin(made: int, total: int) -> None:
            bar.reset(total)
            bar.update(made)

        report = evaluate(prepared, out, begin=begin, tick=bar.update)
        if out is not None:
            with atomic_path(out) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plots is not None:
        from motiongpt3.evaluation.plots import draw_plots

        draw_plots(report, plots)
    print(report_table(report))
    return 0


def report_table(report: dict[str, Any]) -> str:
    """The title, a line per metric (generated, real), and what is undefined or was left out."""
    protocol, split, repeats = report["protocol"], report["split"], report["repeats"]
    limited = f", {report['settings']['limit']} clips at most: not the protocol" if report["settings"]["limit"] else ""
    lines = [
        f"{report['task']} under {protocol['name']} {protocol['version']}: {split['clips']} clips of split "
        f"{split['name']}{limited}; {repeats} repeat{'s' if repeats > 1 else ''}, mean ± 95 % confidence",
        f"model {report['model']['name']} ({report['model'].get('sha256', '')[:12]}), "
        f"evaluator {report['evaluator']['name']} ({report['evaluator']['sha256'][:12]})",
    ]
    rows = []
    for name, sides in report["metrics"].items():
        label, scale, digits = METRICS.get(name, (name, 1.0, 3))
        rows.append([label, *(_cell(sides[side], scale, digits) for side in ("generated", "real"))])
    lines.append(table(["", "generated", "real"], rows))
    if report["undefined"]:
        lines.append(f"undefined: {', '.join(METRICS.get(name, (name,))[0] for name in report['undefined'])}")
    if report["excluded"]:
        named = ", ".join(list(report["excluded"])[:5]) + (", …" if len(report["excluded"]) > 5 else "")
        count = sum(report["excluded"].values())
        lines.append(f"left out, for they hold NaN or infinite values: {count} predictions of the clips {named}")
    return "\n".join(lines)


def _cell(value: dict[str, Any], scale: float, digits: int) -> str:
    if value["mean"] is None:
        return "-"
    spread = "" if value["ci95"] is None else f" ± {value['ci95'] * scale:.{digits}f}"
    return f"{value['mean'] * scale:.{digits}f}{spread}"


def _parser(task: str) -> Parser:
    parser = Parser(
        f"evaluate {task}",
        TASKS[task],
        f"  motiongpt3 evaluate {task} --data data/mocap -o {task}.json --processes 2\n"
        f"  motiongpt3 evaluate {task} --data data/mocap --repeats 1 --limit 100     a quick look\n",
    )
    add_model_options(parser)
    parser.add_argument("--data", required=True, metavar="PACKED", help="a prepared folder or its packed file")
    parser.add_argument(
        "--protocol",
        default="mocap",
        metavar="NAME",
        help="mocap, humanml3d-strict or humanml3d-official; see docs/protocols.md",
    )
    parser.add_argument(
        "--split", type=Literal["train", "val", "test"], default="test", metavar="train|val|test", help="which clips"
    )
    parser.add_argument("--repeats", type=PositiveInt, metavar="N", help="as many as the protocol says if left out")
    parser.add_argument(
        "--processes", type=PositiveInt, default=1, metavar="P", help="how many share the work; the numbers stay"
    )
    parser.add_argument("--limit", type=PositiveInt, metavar="N", help="only N clips, drawn with seed 0: a quick look")
    parser.add_argument("--evaluator", metavar="FOLDER", help="an evaluator; the one of this package if left out")
    parser.add_argument("--words", metavar="FOLDER", help="word vectors for Guo et al.'s evaluator")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="of everything that is drawn")
    parser.add_argument("--guidance", type=NonNegativeFloat, metavar="G", help="the model's own default if left out")
    parser.add_argument("--steps", type=PositiveInt, metavar="N", help="sampling steps; the model's own if left out")
    if task == "m2t":
        parser.add_argument(
            "--bertscore",
            metavar="MODEL",
            help="also BERTScore, by this language model: a folder such as a copy of roberta-large, or minilm",
        )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="the report, a JSON file; finished repeats are kept beside it, and an interrupted run goes on from them",
    )
    parser.add_argument("--plots", metavar="FOLDER", help="draw distributions, classes and confusion into this folder")
    return parser


# `motiongpt3 evaluate instructions`.

ATTACHED = (
    "a person walks forward.",
    "a person waves with the right hand.",
    "a person jumps.",
    "a person squats.",
    "a person walks backward.",
    "a person raises both arms.",
)
"""What the motions show that questions about motions attach; the model itself makes them."""


def instructions(argv: Sequence[str]) -> int:
    """The instruction check."""
    parser = Parser(
        "evaluate instructions",
        "Ask 200 questions kept from training: are they answered with words, a motion or both, as asked?",
        "  motiongpt3 evaluate instructions\n  motiongpt3 evaluate instructions --json answers.json\n",
    )
    add_model_options(parser)
    parser.add_argument("--json", metavar="FILE", help="also write every answer to this file")
    options = parser.parse_args(argv)

    from motiongpt3.evaluation.checks.instruction_check import evaluate_instructions, spoken
    from motiongpt3.evaluation.provenance import made_with

    file = None if options.json is None else Path(options.json)
    with output_files([file] if file else []):
        model = load_model(options.model, options.device, options.profile)
        made = model.generate(list(ATTACHED), seconds=4)
        report = evaluate_instructions(
            model.chat,
            made if isinstance(made, list) else [made],
            progress=lambda questions: iter(tqdm(questions, "asking", unit="question", disable=None)),
        )
        if file is not None:
            rows = zip(report.asked, report.answered, report.texts, strict=True)
            entries = [
                {"question": spoken(asked), "wanted": asked.expects, "answered": got, "text": text}
                for asked, got, text in rows
            ]
            with atomic_path(file) as temporary:
                content = {"score": report.score, "answers": entries, "made_with": made_with(options.model)}
                temporary.write_text(json.dumps(content, indent=2) + "\n")
    print(report.table())
    return 0


# `motiongpt3 evaluate convergence`.


def convergence(argv: Sequence[str]) -> int:
    """Which of two kinds of runs learns faster."""
    parser = Parser(
        "evaluate convergence",
        "From the logged curves of runs of `motiongpt3 train experiment`: the steps that the slow ones take to their "
        "best smoothed value, divided by those the fast ones take to the same value. Runs are paired in the order "
        "given, so give both kinds in the same order of seeds.",
        "  motiongpt3 evaluate convergence --slow runs/single_0 runs/single_1 --fast runs/dual_0 runs/dual_1\n",
    )
    parser.add_argument("--slow", nargs="+", required=True, metavar="RUN", help="folders of the runs that set the goal")
    parser.add_argument("--fast", nargs="+", required=True, metavar="RUN", help="folders of those compared with them")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers of every pair to this file")
    parser.add_argument("--plot", metavar="FILE", help="also draw the curves, as a PNG")
    options = parser.parse_args(argv)

    from motiongpt3.baselines import convergence as measure

    file = Path(options.json) if options.json else None
    picture = Path(options.plot) if options.plot else None
    with output_files([path for path in (file, picture) if path]):
        result = measure.convergence(options.slow, options.fast)
        if file:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(result, indent=2) + "\n")
        if picture:
            with atomic_path(picture) as temporary:
                groups = {_name(runs): runs for runs in (options.slow, options.fast)}
                measure.plot(groups if len(groups) == 2 else {"slow": options.slow, "fast": options.fast}, temporary)
    lines = []
    for entry in result.values():
        for goal in entry["goals"]:
            ratios = (_words(goal[name], goal["at_least"]) for name in ("ratio", "ratio_seconds"))
            lines.append([entry["title"], f"{goal['share']:.0%}", *ratios])
    print("steps (seconds) of the slow runs divided by those of the fast ones, until a share of the slow run's gain")
    print(table(["measure", "share", "steps", "seconds"], lines))
    return 0


def _name(runs: Sequence[str]) -> str:
    """Of runs/single_0, runs/single_1 and so on: single."""
    return Path(runs[0]).name.rstrip("0123456789").rstrip("_-") or runs[0]


def _words(spread: dict[str, Any], at_least: bool) -> str:
    """A ratio with its range over the pairs that get there; `at_least` where some were there at their first mean."""
    if not spread["count"]:
        return "never"
    bound = "at least " if at_least else ""
    return f"{bound}{spread['mean']:.2f} ({spread['least']:.2f} to {spread['largest']:.2f}, {spread['count']} pairs)"
