"""`motiongpt3 caption`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jsonargparse.typing import NonNegativeInt, PositiveInt
from tqdm import tqdm

from motiongpt3.commands.options import Parser, add_model_options, load_model

EXAMPLES = """
  motiongpt3 caption walk.bvh
  motiongpt3 caption clips/*.npz --samples 3
  motiongpt3 caption walk.bvh --beams 4 --json
"""


def caption(argv: Sequence[str]) -> int:
    """What happens in motions."""
    parser = Parser("caption", "Tell in English what happens in motions, from any file that can be read.", EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a motion")
    parser.add_argument("--samples", type=PositiveInt, default=1, metavar="K", help="captions per motion")
    parser.add_argument("--beams", type=PositiveInt, default=1, metavar="B", help="width of the beam search")
    parser.add_argument(
        "--candidates",
        type=PositiveInt,
        metavar="N",
        help="captions to draw, of which the one that fits the motion best is kept; 1 takes the likeliest words "
        "(default: as the model's configuration says)",
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="of the draws")
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print the captions as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.formats import load
    from motiongpt3.models.describing import split

    motions = [load(file) for file in options.files]
    model = load_model(options.model, options.device, options.profile)
    found = model.caption(
        motions,
        samples=options.samples,
        beams=options.beams,
        seed=options.seed,
        candidates=options.candidates,
        progress=lambda batches: iter(tqdm(batches, "reading", unit="batch", disable=None)),
    )
    each = [found[i : i + options.samples] for i in range(0, len(found), options.samples)]
    parts = [len(split(motion, model.config)) for motion in motions]
    if options.json:
        pairs = zip(options.files, each, parts, strict=True)
        print(json.dumps([{"file": file, "captions": texts, "parts": n} for file, texts, n in pairs], indent=2))
        return 0
    for file, texts, count in zip(options.files, each, parts, strict=True):
        note = f" (in {count} parts)" if count > 1 else ""
        for text in texts:
            print(f"{file}{note}: {text}" if len(options.files) > 1 or note else text)
    return 0
