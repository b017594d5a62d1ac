"""`motiongpt3 evaluate t2m`, `m2t`, `predict` and `inbetween`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from tqdm import tqdm

from motiongpt3.commands.options import Parser, add_model_options, output_files, settings_at_hand
from motiongpt3.commands.tables import METRICS, table
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path

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

    from motiongpt3.evaluation.tasks import Request, evaluate, prepare
    from motiongpt3.evaluation.workers import Recipe
    from motiongpt3.models.pretrained import download, read_settings

    load = {"model": options.model, "profile": options.profile, "device": options.device}
    request = Request(
        task,
        options.data,
        options.protocol,
        Recipe(**load, evaluator=options.evaluator, words=options.words),
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
    prepared = prepare(request, config)
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
