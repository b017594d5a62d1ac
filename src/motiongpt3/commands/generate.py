"""`motiongpt3 generate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.commands.finishing import add_finish_options, asks_for_finish, changes, changes_table, finished
from motiongpt3.commands.options import (
    Parser,
    add_drawing_options,
    add_format_options,
    add_model_options,
    add_output_option,
    check_prompts,
    load_model,
    output_files,
    settings_at_hand,
    writable,
)
from motiongpt3.formats import save, suffix_of

if TYPE_CHECKING:
    from motiongpt3.models.config import Profile

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
    add_output_option(parser, ". Several prompts or samples write NAME_000_00.ext, prompt first, then sample")
    parser.add_argument(
        "--seconds",
        type=PositiveFloat,
        metavar="S",
        help="duration, up to the max_seconds of `motiongpt3 info`; if left out, length words in the prompt are "
        "followed (for three seconds, with 80 frames), and without any the model decides",
    )
    parser.add_argument("--samples", type=PositiveInt, default=1, metavar="K", help="motions per prompt")
    add_drawing_options(parser, "same seed, same motion; sample k uses N + k")
    add_format_options(parser)
    add_finish_options(parser)
    add_model_options(parser)
    options = parser.parse_args(argv)

    check_prompts(options.prompts)
    asks_for_finish(options)
    alone = len(options.prompts) == options.samples == 1
    last = len(options.prompts) - 1, options.samples - 1
    with output_files([_numbered(Path(out), *last, alone) for out in options.out]):
        asked = {name: options[name] for name in ("seconds", "samples", "seed", "guidance", "steps")}
        check_before_loading(options.model, options.profile, options.prompts, asked)
        model = load_model(options.model, options.device, options.profile)
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


def check_before_loading(
    model: str | None, profile: Profile | None, prompts: Sequence[str], asked: dict[str, Any]
) -> None:
    """Refuse what the model would refuse, from its configuration; a model that is not on this disk is loaded first."""
    from motiongpt3.models.request import check_request

    if config := settings_at_hand(model, profile):
        check_request(config, prompts, **asked)


def _numbered(out: Path, prompt: int, sample: int, alone: bool) -> Path:
    """The file of one motion; MotionGPT3Error if its format cannot be written."""
    out = writable(out)
    length = len(suffix_of(out))
    stem, suffix = out.name[:-length], out.name[-length:]
    return out if alone else out.with_name(f"{stem}_{prompt:03d}_{sample:02d}{suffix}")
