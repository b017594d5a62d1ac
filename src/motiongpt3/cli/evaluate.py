"""The commands that measure: tasks under a protocol, checks, reconstruction, quality and convergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
from jsonargparse.typing import PositiveInt
from tqdm import tqdm

from motiongpt3.cli.options import (
    CountArg,
    FileArg,
    FolderArg,
    GuidanceArg,
    ModelOptions,
    OutArg,
    PackedArg,
    SeedArg,
    Split,
    bar,
    output_files,
    table,
    tell,
    write_json,
)
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from motiongpt3.data.clips import PackedClips
    from motiongpt3.evaluation.protocols import TaskName
    from motiongpt3.motion.motion import Motion

RunArg = Annotated[str, Arg("RUN")]

# --------------------------------------------------------------------------------------- t2m, m2t, predict, inbetween


@dataclass(frozen=True)
class ProtocolOptions:
    """What is evaluated under which protocol."""

    data: PackedArg
    """a prepared folder or its packed file"""
    protocol: Annotated[str, Arg("NAME")] = "mocap"
    """mocap, humanml3d-strict or humanml3d-official; see docs/protocols.md"""
    split: Split = "test"
    """which clips"""
    repeats: CountArg | None = None
    """as many as the protocol says if left out"""
    processes: Annotated[int, Arg("P", PositiveInt)] = 1
    """how many share the work; the numbers stay"""
    limit: CountArg | None = None
    """only N clips, drawn with seed 0: a quick look"""
    evaluator: FolderArg | None = None
    """an evaluator; the one of this package if left out"""
    words: FolderArg | None = None
    """word vectors for Guo et al.'s evaluator"""
    seed: SeedArg = 0
    """of everything that is drawn"""
    guidance: GuidanceArg | None = None
    """the model's own default if left out"""
    steps: CountArg | None = None
    """sampling steps; the model's own if left out"""


@dataclass(frozen=True)
class ReportOptions:
    """Where the numbers go."""

    out: OutArg | None = None
    """the report, a JSON file; finished repeats are kept beside it, and an interrupted run goes on from them"""
    plots: FolderArg | None = None
    """draw distributions, classes and confusion into this folder"""


def t2m(*, model: ModelOptions, run: ProtocolOptions, report: ReportOptions) -> None:
    """Draw a motion for a caption of each recorded clip: does it fit the words, is it like the recordings?

    Examples:
      motiongpt3 evaluate t2m --data data/mocap -o t2m.json --processes 2
      motiongpt3 evaluate t2m --data data/mocap --repeats 1 --limit 100     a quick look
    """
    _evaluate("t2m", model, run, report)


def m2t(
    *,
    model: ModelOptions,
    run: ProtocolOptions,
    bertscore: Annotated[str | None, Arg("MODEL")] = None,
    report: ReportOptions,
) -> None:
    """Write a caption for each recorded clip: how close is it to what people wrote?

    Args:
        bertscore: also BERTScore, by this language model: a folder such as a copy of roberta-large, or minilm

    Examples:
      motiongpt3 evaluate m2t --data data/mocap -o m2t.json --processes 2
      motiongpt3 evaluate m2t --data data/mocap --repeats 1 --limit 100     a quick look
    """
    _evaluate("m2t", model, run, report, bertscore)


def predict(*, model: ModelOptions, run: ProtocolOptions, report: ReportOptions) -> None:
    """Continue the beginning of each recorded clip: how far is it from how it went on?

    Examples:
      motiongpt3 evaluate predict --data data/mocap -o predict.json --processes 2
      motiongpt3 evaluate predict --data data/mocap --repeats 1 --limit 100     a quick look
    """
    _evaluate("predict", model, run, report)


def inbetween(*, model: ModelOptions, run: ProtocolOptions, report: ReportOptions) -> None:
    """Fill the middle of each recorded clip: how far is it from what happened?

    Examples:
      motiongpt3 evaluate inbetween --data data/mocap -o inbetween.json --processes 2
      motiongpt3 evaluate inbetween --data data/mocap --repeats 1 --limit 100     a quick look
    """
    _evaluate("inbetween", model, run, report)


def _evaluate(
    task: TaskName, model: ModelOptions, run: ProtocolOptions, report: ReportOptions, bertscore: str | None = None
) -> None:
    from motiongpt3.evaluation.runner import evaluate, prepare_evaluation
    from motiongpt3.evaluation.session import EvaluationRequest

    out, plots = (Path(path) if path is not None else None for path in (report.out, report.plots))
    if out is not None and out.suffix != ".json":
        raise MotionGPT3Error(f"the report is JSON: give -o a name that ends in .json, not {out.name!r}")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise MotionGPT3Error(f"--plots takes a folder, and {plots} is a file")
    request = EvaluationRequest(task, bertscore=bertscore, **vars(model), **vars(run))
    prepared = prepare_evaluation(request, model.settings())
    with output_files(out), tqdm(desc=f"evaluating {task}", unit="clip", disable=None) as shown:

        def begin(made: int, total: int) -> None:
            shown.reset(total)
            shown.update(made)

        found = evaluate(prepared, out, begin=begin, tick=shown.update)
        if out is not None:
            write_json(out, found, indent=1)
    if plots is not None:
        from motiongpt3.evaluation.plots import draw_plots

        draw_plots(found, plots)
    print(report_table(found))


METRICS = {
    "r_precision_1": ("R-precision 1 (%)", 100.0, 1),
    "r_precision_2": ("R-precision 2 (%)", 100.0, 1),
    "r_precision_3": ("R-precision 3 (%)", 100.0, 1),
    "mm_dist": ("MM-Dist", 1.0, 3),
    "fid": ("FID", 1.0, 3),
    "fid_halves": ("FID, half against other half", 1.0, 3),
    "diversity": ("diversity", 1.0, 3),
    "multimodality": ("multimodality", 1.0, 3),
    "skate_ratio": ("frames with a skating foot (%)", 100.0, 2),
    "skate_speed": ("speed of toes near the floor (cm/s)", 1.0, 2),
    "penetration_mean": ("depth under the floor (mm)", 1.0, 2),
    "floating": ("floating frames (%)", 100.0, 2),
    "jitter": ("jitter (m/s³)", 1.0, 1),
    "bleu_1": ("BLEU-1, words", 100.0, 1),
    "bleu_4": ("BLEU-4, words", 100.0, 1),
    "rouge_l": ("ROUGE-L, words", 100.0, 1),
    "cider": ("CIDEr, words (0 to 10)", 1.0, 3),
    "lemma_bleu_1": ("BLEU-1, lemmas", 100.0, 1),
    "lemma_bleu_4": ("BLEU-4, lemmas", 100.0, 1),
    "lemma_rouge_l": ("ROUGE-L, lemmas", 100.0, 1),
    "lemma_cider": ("CIDEr, lemmas (0 to 10)", 1.0, 3),
    "bert_score": ("BERTScore F1, rescaled", 100.0, 1),
    "bert_baseline": ("BERTScore F1 of unrelated captions", 100.0, 1),
    "action": ("action word right (%)", 100.0, 1),
    "left_right": ("left or right right (%)", 100.0, 1),
    "forward_backward": ("forward or backward right (%)", 100.0, 1),
    "distinct": ("distinct captions (%)", 100.0, 1),
    "ade": ("ADE (m)", 1.0, 3),
    "fde": ("FDE (m)", 1.0, 3),
    "ade_best": ("ADE, best of the predictions (m)", 1.0, 3),
    "fde_best": ("FDE, best of the predictions (m)", 1.0, 3),
    "apd": ("APD (m)", 1.0, 3),
    "apd_norm": ("APD as DLow has it (m)", 1.0, 2),
    "seam_jerk": ("jerk at the seams (m/s³)", 1.0, 0),
}
"""Metrics of `evaluation.tasks`: words, what they are multiplied with and digits, for tables."""


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


# ------------------------------------------------------------------------------------- prompts, captions, instructions


def prompts(
    *,
    model: ModelOptions,
    kind: Literal["plain", "free", "all"] = "plain",
    seeds: CountArg = 4,
    json: FileArg | None = None,
) -> None:
    """Generate prompts with several seeds and judge by kinematics whether the motions do what the prompts say.

    Args:
        kind: captions as in the training data, free wording, or both
        seeds: motions per prompt, seeds 0 … N-1
        json: also write every verdict to this file

    Examples:
      motiongpt3 evaluate prompts
      motiongpt3 evaluate prompts --model runs/stage1/model --kind all --json prompts.json
    """
    from motiongpt3.evaluation.checks.prompt_check import PROMPT_BARS, PromptKind, evaluate_prompts, load_prompts
    from motiongpt3.evaluation.provenance import made_with

    kinds: list[PromptKind] = [each for each in get_args(PromptKind) if kind in (each, "all")]
    reports = {}
    with output_files(json):
        network = model.load()
        cases = {each: load_prompts(each) for each in kinds}
        with tqdm(total=seeds * sum(map(len, cases.values())), desc="generating", unit="motion", disable=None) as shown:

            def generate(texts: list[str], seconds: float, seed: int) -> list[Motion]:
                made = network.generate(texts, seconds=seconds, seed=seed)
                shown.update(len(texts))
                return made if isinstance(made, list) else [made]

            for each in kinds:
                reports[each] = evaluate_prompts(generate, cases[each], range(seeds))
        if json:
            content = {each: report.as_dict() for each, report in reports.items()}
            write_json(json, {**content, "made_with": made_with(model.model)})
    for each, report in reports.items():
        print(f"{each} prompts (a good model reaches {PROMPT_BARS[each]:.0%})\n{report.table()}")


def captions(
    *,
    model: ModelOptions,
    data: PackedArg,
    split: Split = "test",
    clips: CountArg | None = None,
    judge: bool = False,
    json: FileArg | None = None,
) -> None:
    """Caption recorded clips and judge the words: the action by a list of synonyms, left and right, forward and
    backward by what people wrote about the clip.

    Args:
        data: a prepared folder or its packed file
        split: which clips
        clips: only N clips, drawn with seed 0
        judge: without a model: how the judge judges people's own captions, those of other actions and swapped ones
        json: also write the numbers and every caption to this file

    Examples:
      motiongpt3 evaluate captions --data data/mocap
      motiongpt3 evaluate captions --data data/mocap --judge
    """
    from motiongpt3.data.clips import PackedClips
    from motiongpt3.evaluation.checks.caption_check import Directions, Labelled, judge_captions, validate_judge
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.motion.motion import Motion

    pack = PackedClips.open(data)
    words = [Labelled(clip.captions, clip.short) for clip in pack.clips]
    rows = _rows(pack, split, captioned=True)
    if clips:
        rows = sorted(np.random.default_rng(0).permutation(rows)[:clips].tolist())
    directions = Directions(words)
    chosen = [words[row] for row in rows]
    with output_files(json):
        if judge:
            verdict = validate_judge(chosen, directions)
            content, lines = asdict(verdict), verdict.table()
        else:
            network = model.load()
            most = int(network.max_seconds * pack.fps)
            written: list[str] = []
            for start in tqdm(range(0, len(rows), 32), "captioning", unit="batch", disable=None):
                part = [Motion(pack.clip_joints(row)[:most], pack.fps) for row in rows[start : start + 32]]
                written += network.caption(part)
            report = judge_captions(written, chosen, directions)
            every = [
                {"clip": pack.clips[row].id, "label": clip.label, "caption": text, "references": list(clip.references)}
                for row, clip, text in zip(rows, chosen, written, strict=True)
            ]
            made = made_with(model.model, pack, split, rows)
            content = {"split": split, **asdict(report), "captions": every, "made_with": made}
            lines = f"split {split}, clips cut at {network.max_seconds:g} s\n{report.table()}"
        if json:
            write_json(json, content)
    print(lines)


SHOWN_MOTIONS = (
    "a person walks forward.",
    "a person waves with the right hand.",
    "a person jumps.",
    "a person squats.",
    "a person walks backward.",
    "a person raises both arms.",
)
"""What the motions show that questions about motions attach; the model itself makes them."""


def instructions(*, model: ModelOptions, json: FileArg | None = None) -> None:
    """Ask 200 questions kept from training: are they answered with words, a motion or both, as asked?

    Args:
        json: also write every answer to this file

    Examples:
      motiongpt3 evaluate instructions
      motiongpt3 evaluate instructions --json answers.json
    """
    from motiongpt3.evaluation.checks.instruction_check import evaluate_instructions, spoken
    from motiongpt3.evaluation.provenance import made_with

    with output_files(json):
        network = model.load()
        made = network.generate(list(SHOWN_MOTIONS), seconds=4)
        shown = made if isinstance(made, list) else [made]
        report = evaluate_instructions(network.chat, shown, progress=bar("asking", "question"))
        if json:
            entries = [
                {"question": spoken(asked), "wanted": asked.expects, "answered": got, "text": text}
                for asked, got, text in zip(report.asked, report.answered, report.texts, strict=True)
            ]
            content = {"score": report.score, "answers": entries, "made_with": made_with(model.model)}
            write_json(json, content)
    print(report.table())


# ------------------------------------------------------------------------------------------ vae, quality, convergence


def vae(*, vae: FolderArg | None = None, data: PackedArg, split: Split = "val", json: bool = False) -> None:
    """Encode and decode recorded clips with a motion VAE and print the mean joint errors, per source.

    Args:
        vae: a VAE folder or a model folder; the model of this package if left out
        data: a prepared folder or its packed file
        split: which clips
        json: print the numbers as JSON

    Examples:
      motiongpt3 evaluate vae --data data/mocap
      motiongpt3 evaluate vae --vae runs/vae/vae --data data/mocap --split test --json
    """
    from motiongpt3.data.bank import ClipBank
    from motiongpt3.data.clips import PackedClips
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.models.motiongpt3 import EMBEDDED
    from motiongpt3.models.vae import load_vae
    from motiongpt3.training.autoencoder import reconstruction_errors

    pack = PackedClips.open(data)
    rows = _rows(pack, split)
    model = load_vae(EMBEDDED if vae is None else vae)
    sources = sorted({pack.clips[row].source for row in rows})
    errors: dict[str, Any] = {}
    for source in tqdm(sources, "reconstructing", unit="source", disable=None):
        clips = [clip for clip in pack.clips if clip.source == source]
        errors[source] = reconstruction_errors(model, ClipBank([replace(pack, clips=clips)], split))
    errors["all"] = {
        key: np.concatenate([parts[key].numpy() for parts in errors.values()]) for key in errors[sources[0]]
    }
    numbers = {
        source: {"clips": len(e["global_mm"]), **{key: float(value.mean()) for key, value in e.items()}}
        for source, e in errors.items()
    }
    lines = [
        [source or "-", str(n["clips"]), f"{n['root_aligned_mm']:.1f}", f"{n['global_mm']:.1f}"]
        for source, n in numbers.items()
    ]
    tell(
        json,
        {"split": split, "sources": numbers, "made_with": made_with(vae, pack, split, rows) if json else None},
        f"split {split}: mean over clips of the mean joint error in mm; clips are cut at the VAE's maximum",
        table(["source", "clips", "root-aligned", "global"], lines),
    )


def quality(
    *,
    model: ModelOptions,
    data: PackedArg,
    split: Split = "test",
    clips: CountArg = 100,
    seed: SeedArg = 0,
    json: bool = False,
) -> None:
    """Measure recorded clips, and motions generated from the same captions with the same lengths, side by side.

    Args:
        data: a prepared folder or its packed file
        split: which clips
        clips: clips to draw, at most
        seed: of the draw and of the motions
        json: print the numbers as JSON

    Examples:
      motiongpt3 evaluate quality --data data/mocap --clips 200
    """
    from motiongpt3.data.clips import PackedClips
    from motiongpt3.evaluation.provenance import made_with
    from motiongpt3.motion.motion import Motion
    from motiongpt3.motion.quality import UNITS, measure, summary

    pack = PackedClips.open(data)
    rows = _rows(pack, split, captioned=True)
    network = model.load()
    chosen = [rows[number] for number in np.random.default_rng(seed).permutation(len(rows))[:clips]]
    most = int(network.max_seconds * pack.fps)
    real, made = [], []
    for row in tqdm(sorted(chosen), "generating", unit="clip", disable=None):
        joints = pack.clip_joints(row)[:most]
        real.append(measure(Motion(joints, pack.fps)))
        drawn = network.generate(pack.clips[row].captions[0], seconds=len(joints) / pack.fps, seed=seed)
        made.append(measure(drawn))
    sides = {"real": summary(real), "generated": summary(made)}
    facts = {name: side.as_dict() for name, side in sides.items()}
    tell(
        json,
        {"clips": len(real), **facts, "made_with": made_with(model.model, pack, split, chosen) if json else None},
        f"{len(real)} clips of split {split}, clips cut at {network.max_seconds:g} s",
        table(["mean of", *sides], [[f"{name} ({UNITS[name]})", *(s[name] for s in facts.values())] for name in UNITS]),
    )


def _rows(pack: PackedClips, split: str, captioned: bool = False) -> list[int]:
    """The clips of a split; MotionGPT3Error if there is none."""
    rows = pack.split(split)
    if not rows:
        raise MotionGPT3Error(f"{pack.path} has no clips of split {split}")
    if captioned:
        rows = [row for row in rows if pack.clips[row].captions]
        if not rows:
            raise MotionGPT3Error(f"no clip of split {split} has a caption")
    return rows


def convergence(
    *, slow: list[RunArg], fast: list[RunArg], json: FileArg | None = None, plot: FileArg | None = None
) -> None:
    """From the logged curves of runs of `motiongpt3 train experiment`: the steps that the slow ones take to their best
    smoothed value, divided by those the fast ones take to the same value. Runs are paired in the order given, so give
    both kinds in the same order of seeds.

    Args:
        slow: folders of the runs that set the goal
        fast: folders of those compared with them
        json: also write the numbers of every pair to this file
        plot: also draw the curves, as a PNG

    Examples:
      motiongpt3 evaluate convergence --slow runs/single_0 runs/single_1 --fast runs/dual_0 runs/dual_1
    """
    from motiongpt3.baselines import convergence as measure
    from motiongpt3.serialization import atomic_path

    with output_files(json, plot):
        result = measure.convergence(slow, fast)
        if json:
            write_json(json, result)
        if plot:
            with atomic_path(plot) as temporary:
                names = [_name(runs) for runs in (slow, fast)]
                names = names if names[0] != names[1] else ["slow", "fast"]
                measure.plot(dict(zip(names, (slow, fast), strict=True)), temporary)
    lines = []
    for entry in result.values():
        for goal in entry["goals"]:
            ratios = (_words(goal[name], goal["at_least"]) for name in ("ratio", "ratio_seconds"))
            lines.append([entry["title"], f"{goal['share']:.0%}", *ratios])
    print("steps (seconds) of the slow runs divided by those of the fast ones, until a share of the slow run's gain")
    print(table(["measure", "share", "steps", "seconds"], lines))


def _name(runs: Sequence[str]) -> str:
    """Of runs/single_0, runs/single_1 and so on: single."""
    return Path(runs[0]).name.rstrip("0123456789").rstrip("_-") or runs[0]


def _words(spread: dict[str, Any], at_least: bool) -> str:
    """A ratio with its range over the pairs that get there; `at_least` where some were there at their first mean."""
    if not spread["count"]:
        return "never"
    bound = "at least " if at_least else ""
    return f"{bound}{spread['mean']:.2f} ({spread['least']:.2f} to {spread['largest']:.2f}, {spread['count']} pairs)"
