"""`motiongpt3 predict`, `motiongpt3 inbetween` and `motiongpt3 compose`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, PositiveFloat
from tqdm import tqdm

from motiongpt3.commands.finishing import add_finish_options, asks_for_finish, changes, changes_table, finished
from motiongpt3.commands.options import (
    Parser,
    add_drawing_options,
    add_model_options,
    add_output_option,
    check_prompts,
    load_model,
    output_files,
    settings_at_hand,
    writable,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load
from motiongpt3.motion.motion import Motion

PREDICT_EXAMPLES = """
  motiongpt3 predict walk.bvh --seconds 3 -o longer.bvh -o longer.mp4
  motiongpt3 predict walk.bvh --seconds 3 --prompt "a person sits down" -o sits.bvh
  motiongpt3 predict walk.bvh --seconds 3 --fix-feet --fps 30 -o longer.glb
"""
INBETWEEN_EXAMPLES = """
  motiongpt3 inbetween start.bvh end.bvh --seconds 2 -o joined.bvh
  motiongpt3 inbetween clip.bvh --gap 1.5 3 -o mended.bvh
      the frames from 1.5 s to 3 s are drawn anew, all others stay; --seconds makes the gap longer or shorter
"""
COMPOSE_EXAMPLES = """
  motiongpt3 compose "walk forward: 3" "turn left" "sit down: 2.5" -o out.mp4
      three seconds of walking, then a turn of a length that the model decides, then 2.5 s
"""

_UNLESS = ", unless the whole is finished (--fix-feet, --in-place, --loop, --fps, --smooth), which changes them"


def predict(argv: Sequence[str]) -> int:
    """A motion and how it goes on."""
    parser = Parser("predict", f"Continue a motion. Its own frames come back exactly{_UNLESS}.", PREDICT_EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="a motion of one second or more; its last two seconds count")
    parser.add_argument("--seconds", type=PositiveFloat, required=True, metavar="S", help="how much more; any length")
    options = _parse(parser, argv, prompt=True)
    outs = [writable(out) for out in options.out]
    motion = load(options.file)
    asked = {name: options[name] for name in ("prompt", "seed", "guidance", "steps")}
    with output_files(outs):
        from motiongpt3.models.continuing import READ_SECONDS
        from motiongpt3.models.continuing_request import check_predict

        if config := settings_at_hand(options.model, options.profile):
            check_predict(config, motion, options.seconds, **asked)
        model = load_model(options.model, options.device, options.profile)
        longer = model.predict(motion, options.seconds, **asked, progress=_bar("window"))
        parts: dict[str, Any] = {"given": len(motion), "new": len(longer) - len(motion)}
        if "caption" in model.tasks:
            parts["read_seconds"] = min(motion.seconds, READ_SECONDS)
        _write(longer, outs, parts, options)
    return 0


def inbetween(argv: Sequence[str]) -> int:
    """What happens between two motions."""
    parser = Parser(
        "inbetween", f"Fill a gap. The frames on both sides come back exactly{_UNLESS}.", INBETWEEN_EXAMPLES
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="the motions before and after, or one with --gap")
    parser.add_argument("--seconds", type=PositiveFloat, metavar="S", help="length of the gap; with --gap its own")
    parser.add_argument(
        "--gap", nargs=2, type=NonNegativeFloat, metavar=("FROM", "TO"), help="seconds between which FILE is drawn anew"
    )
    options = _parse(parser, argv, prompt=True)
    outs = [writable(out) for out in options.out]
    start, end, seconds = _sides(options.files, options.gap, options.seconds)
    asked = {name: options[name] for name in ("prompt", "seed", "guidance", "steps")}
    with output_files(outs):
        if config := settings_at_hand(options.model, options.profile):
            from motiongpt3.models.continuing_request import check_inbetween

            check_inbetween(config, start, end, seconds, **asked)
        model = load_model(options.model, options.device, options.profile)
        whole = model.inbetween(start, end, seconds, **asked, progress=_bar("window"))
        new = len(whole) - len(start) - len(end)
        _write(whole, outs, {"before": len(start), "new": new, "after": len(end)}, options)
    return 0


def compose(argv: Sequence[str]) -> int:
    """Several prompts, one motion."""
    parser = Parser("compose", "Make one continuous motion of several prompts.", COMPOSE_EXAMPLES)
    parser.add_argument(
        "prompts", nargs="+", metavar="PROMPT", help='what the person does, in order; "PROMPT: S" gives it S seconds'
    )
    options = _parse(parser, argv, prompt=False)
    outs = [writable(out) for out in options.out]
    prompts = [timed(text) for text in options.prompts]
    check_prompts([item if isinstance(item, str) else item[0] for item in prompts])
    asked = {name: options[name] for name in ("seed", "guidance", "steps")}
    with output_files(outs):
        from motiongpt3.models import continuing
        from motiongpt3.models.continuing_request import check_compose

        if config := settings_at_hand(options.model, options.profile):
            check_compose(config, prompts, **asked)
        model = load_model(options.model, options.device, options.profile)
        motion, spans = continuing.compose(model, prompts, **asked, progress=_bar("prompt"))
        _write(motion, outs, {"prompts": [vars(span) for span in spans]}, options)
    return 0


def timed(text: str) -> str | tuple[str, float]:
    """A prompt of the command line: "walk forward: 3" is ("walk forward", 3.0), other text is itself.

    Raises:
        MotionGPT3Error: zero or endless seconds, or nothing before the colon.
    """
    found = re.fullmatch(r"(.*):\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(?:s|seconds?)?\s*", text, re.DOTALL | re.IGNORECASE)
    if not found:
        return text
    try:
        seconds = float(found[2])
    except ValueError:
        return text
    if not found[1].strip():
        raise MotionGPT3Error(f"there is no prompt before the colon in {text[:40]!r}")
    if not seconds > 0:
        raise MotionGPT3Error(f"seconds must be more than 0, not {seconds:g}, in {text[:40]!r}")
    return found[1].strip(), seconds


def _sides(files: Sequence[str], gap: Sequence[float] | None, seconds: float | None) -> tuple[Motion, Motion, float]:
    """The motions before and after the gap, and its length."""
    if gap is None:
        if len(files) != 2:
            raise MotionGPT3Error("give two files, the motions before and after, or one with --gap FROM TO")
        if seconds is None:
            raise MotionGPT3Error("missing: --seconds, the length of the gap")
        start, end = load(files[0]), load(files[1])
        return start, end, seconds
    if len(files) != 1:
        raise MotionGPT3Error("--gap FROM TO is for one file")
    motion = load(files[0])
    first, last = gap
    if not first < last:
        raise MotionGPT3Error(f"the gap must end after it begins, not go from {first:g} to {last:g} s")
    begin, stop = round(first * motion.fps), round(last * motion.fps)
    if begin < 1 or stop >= len(motion):
        raise MotionGPT3Error(
            f"the gap from {first:g} to {last:g} s leaves nothing on one side of a motion of {motion.seconds:g} s"
        )
    if begin == stop:
        raise MotionGPT3Error(f"the gap from {first:g} to {last:g} s is shorter than a frame")
    return motion[:begin], motion[stop:], (stop - begin) / motion.fps if seconds is None else seconds


def _parse(parser: Parser, argv: Sequence[str], *, prompt: bool) -> Any:
    if prompt:
        parser.add_argument("--prompt", metavar="TEXT", help="what happens in the new part; free if left out")
    add_output_option(parser)
    add_drawing_options(parser)
    add_finish_options(parser)
    add_model_options(parser)
    options = parser.parse_args(argv)
    asks_for_finish(options)
    if prompt and options.prompt is not None:
        check_prompts([options.prompt])
    return options


def _bar(unit: str) -> Any:
    def show(items: Sequence[Any]) -> Iterator[Any]:
        return iter(tqdm(items, "drawing", unit=unit, disable=None))

    return show


def _write(drawn: Motion, outs: Sequence[Path], parts: dict[str, Any], options: Namespace) -> None:
    """Finish as asked, save to each file and say what it holds; `parts` counts frames as they were drawn."""
    motion = finished(drawn, options)
    changed = changes([drawn], [motion], options)
    written = []
    for out in outs:
        file = motion.save(out)
        written.append(
            {"file": str(file), "frames": len(motion), "seconds": motion.seconds, "fps": motion.fps, **parts}
            | ({"drawn": {"frames": len(drawn), "fps": drawn.fps}, "finish": changed} if changed else {})
        )
    if options.json:
        print(json.dumps(written, indent=2))
        return
    told = ", ".join(f"{count} {name}" for name, count in parts.items() if isinstance(count, int))
    told += " before finishing" if told and changed else ""
    told += f"; the model read the last {parts['read_seconds']:g} s" if "read_seconds" in parts else ""
    for entry in written:
        print(f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s{f' ({told})' if told else ''}")
    note = " before finishing" if changed else ""
    for span in parts.get("prompts", []):
        print(f"  {span['start'] / drawn.fps:.2f} to {span['end'] / drawn.fps:.2f} s{note}: {span['prompt']}")
    if changed:
        print(changes_table(changed))
