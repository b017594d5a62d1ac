"""`motiongpt3 generate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.commands.finishing import add_finish_options, changes, changes_table, finished
from motiongpt3.commands.options import (
    Parser,
    add_format_options,
    add_model_options,
    load_model,
    output_files,
    writable,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import save, writable_suffixes
from motiongpt3.instructions.prompt import clean_prompt

EXAMPLES = """
  motiongpt3 generate "a person walks forward and waves with the right hand" -o wave.mp4 -o wave.bvh
  motiongpt3 generate "someone squats" --seconds 4 --seed 7 -o squat.npz
  motiongpt3 generate "a person walks forward" --seconds 6 --fix-feet --loop --in-place --fps 30 -o walk.glb
  motiongpt3 generate "a person jumps" "a person kicks" --samples 3 -o out/clip.bvh
      writes out/clip_000_00.bvh … out/clip_001_02.bvh: the prompt, then the sample
"""


def generate(argv: Sequence[str]) -> int:
    """Motions from sentences."""
    parser = Parser("generate", "Make motions that do what the prompts say.", EXAMPLES)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what the person does, in an English sentence")
    parser.add_argument(
        "-o",
        "--out",
        action="append",
        required=True,
        metavar="FILE",
        help=f"file to write; its suffix decides the format ({', '.join(writable_suffixes())}); may be repeated. "
        "Several prompts or samples write NAME_000_00.ext, prompt first, then sample",
    )
    parser.add_argument(
        "--seconds",
        type=PositiveFloat,
        metavar="S",
        help="duration, up to the max_seconds of `motiongpt3 info`; the model decides if left out",
    )
    parser.add_argument("--samples", type=PositiveInt, default=1, metavar="K", help="motions per prompt")
    parser.add_argument(
        "--seed", type=NonNegativeInt, default=0, metavar="N", help="same seed, same motion; sample k uses N + k"
    )
    parser.add_argument(
        "--guidance",
        type=NonNegativeFloat,
        metavar="G",
        help="how strictly to follow the words: 1 is plain, more is stricter and less varied; the model's own default "
        "if left out",
    )
    parser.add_argument(
        "--steps", type=PositiveInt, metavar="N", help="sampling steps; the model's own default if left out"
    )
    add_format_options(parser)
    add_finish_options(parser)
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    options = parser.parse_args(argv)

    for prompt in options.prompts:
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise MotionGPT3Error(f"the prompt {prompt[:40]!r} is not valid UTF-8 text")
        clean_prompt(prompt)
    alone = len(options.prompts) == options.samples == 1
    last = len(options.prompts) - 1, options.samples - 1
    with output_files([_numbered(Path(out), *last, alone) for out in options.out]):
        asked = {name: options[name] for name in ("seconds", "samples", "seed", "guidance", "steps")}
        check_before_loading(options.model, options.prompts, asked)
        model = load_model(options.model, options.device)
        made = model.generate(
            options.prompts,
            **asked,
            progress=lambda batches: iter(tqdm(batches, "generating", unit="batch", disable=None)),
        )
        raw = made if isinstance(made, list) else [made]
        motions = [finished(motion, options) for motion in raw]
        written = []
        for number, motion in enumerate(tqdm(motions, "writing", unit="motion", disable=None)):
            prompt, sample = divmod(number, options.samples)
            changed = changes([raw[number]], [motion], options)
            for out in options.out:
                file = save(motion, _numbered(Path(out), prompt, sample, alone), options.bvh_dialect, options.body)
                written.append(
                    {
                        "file": str(file),
                        "prompt": options.prompts[prompt],
                        "seed": options.seed + sample,
                        "frames": len(motion),
                        "seconds": motion.seconds,
                    }
                    | ({"finish": changed} if changed else {})
                )
    if options.json:
        print(json.dumps(written, indent=2))
    else:
        for entry in written:
            print(f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s")
        if changed := changes(raw, motions, options):
            print(changes_table(changed))
    return 0


def check_before_loading(model: str | None, prompts: Sequence[str], asked: dict[str, Any]) -> None:
    """Refuse what the model would refuse, from its configuration; a model that is not on this disk is loaded first."""
    from motiongpt3.models.motiongpt3 import EMBEDDED, read_settings
    from motiongpt3.models.request import check_request

    folder = EMBEDDED if model is None else Path(model)
    if model is None or folder.is_dir():
        config, _, _ = read_settings(folder)
        check_request(config, prompts, **asked)


def _numbered(out: Path, prompt: int, sample: int, alone: bool) -> Path:
    """The file of one motion; MotionGPT3Error if its format cannot be written."""
    suffix = writable(out)
    return (
        out
        if alone
        else out.with_name(f"{out.name[: -len(suffix)]}_{prompt:03d}_{sample:02d}{out.name[-len(suffix) :]}")
    )
