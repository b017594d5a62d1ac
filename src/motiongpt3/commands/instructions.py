"""`motiongpt3 evaluate instructions`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from motiongpt3.commands.options import Parser, add_model_options, load_model, output_files
from motiongpt3.files import atomic_path

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

    from motiongpt3.evaluation.instructions import evaluate_instructions, spoken
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
