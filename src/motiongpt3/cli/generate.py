"""`motiongpt3 generate`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.cli.options import (
    Parser,
    add_drawing_options,
    add_finish_options,
    add_format_options,
    add_model_options,
    add_output_option,
    asks_for_finish,
    changes,
    changes_table,
    check_prompts,
    finished,
    load_model,
    output_files,
    settings_at_hand,
    writable,
)
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save, suffix_of
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3
    from motiongpt3.models.request import DrawOptions


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
        from motiongpt3.models.request import check_generate

        draw = _draw_options(options, "generating", "batch")
        if config := settings_at_hand(options.model, options.profile):
            check_generate(config, options.prompts, options.seconds, options.samples, draw)
        model = load_model(options.model, options.device, options.profile)
        made = model.generate(options.prompts, options.seconds, options.samples, **vars(draw))
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


def _draw_options(options: Namespace, doing: str, unit: str) -> DrawOptions:
    """--seed, --guidance and --steps, with a progress bar."""
    from motiongpt3.models.request import DrawOptions

    def progress(items: Sequence[Any]) -> Iterator[Any]:
        return iter(tqdm(items, doing, unit=unit, disable=None))

    return DrawOptions(options.seed, options.guidance, options.steps, progress)


def _numbered(out: Path, prompt: int, sample: int, alone: bool) -> Path:
    """The file of one motion; MotionGPT3Error if its format cannot be written."""
    out = writable(out)
    length = len(suffix_of(out))
    stem, suffix = out.name[:-length], out.name[-length:]
    return out if alone else out.with_name(f"{stem}_{prompt:03d}_{sample:02d}{suffix}")


# `motiongpt3 predict`, `motiongpt3 inbetween` and `motiongpt3 compose`.

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
    draw = _draw_options(options, "drawing", "window")
    with output_files(outs):
        from motiongpt3.models.completion import READ_SECONDS
        from motiongpt3.models.request import check_predict

        if config := settings_at_hand(options.model, options.profile):
            check_predict(config, motion, options.seconds, options.prompt, draw)
        model = load_model(options.model, options.device, options.profile)
        longer = model.predict(motion, options.seconds, options.prompt, **vars(draw))
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
    draw = _draw_options(options, "drawing", "window")
    with output_files(outs):
        if config := settings_at_hand(options.model, options.profile):
            from motiongpt3.models.request import check_inbetween

            check_inbetween(config, start, end, seconds, options.prompt, draw)
        model = load_model(options.model, options.device, options.profile)
        whole = model.inbetween(start, end, seconds, options.prompt, **vars(draw))
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
    draw = _draw_options(options, "drawing", "prompt")
    with output_files(outs):
        from motiongpt3.models import completion as continuing
        from motiongpt3.models.request import check_compose

        if config := settings_at_hand(options.model, options.profile):
            check_compose(config, prompts, draw)
        model = load_model(options.model, options.device, options.profile)
        motion, spans = continuing.compose(model, prompts, draw)
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


# `motiongpt3 caption`.

EXAMPLES_caption = """
  motiongpt3 caption walk.bvh
  motiongpt3 caption clips/*.npz --samples 3
  motiongpt3 caption walk.bvh --beams 4 --json
"""


def caption(argv: Sequence[str]) -> int:
    """What happens in motions."""
    parser = Parser(
        "caption", "Tell in English what happens in motions, from any file that can be read.", EXAMPLES_caption
    )
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
    from motiongpt3.models.captioning import split

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


# `motiongpt3 chat`.

EXAMPLES_chat = """
  motiongpt3 chat "Describe this motion: @walk.bvh"
  motiongpt3 chat "Show me how somebody waves, then tell me what I see." -o wave.mp4
  motiongpt3 chat -o reply.bvh
      a conversation, a line a message; motions go to reply_1.bvh, reply_2.bvh …
"""
ATTACHED = re.compile(r"""(?<!\w)@(?:"([^"]+)"|(\S+?)(?=[,.;:!?)]*(?:\s|$)))""")
"""@"FILE" or @FILE, a sentence's marks behind it not included; an address such as me@home is none."""


def chat(argv: Sequence[str]) -> int:
    """Free instructions, answered with words, motions or both."""
    text = 'Talk with the model. @FILE or @"FILE" in a message attaches a motion. Without a message, lines are read.'
    parser = Parser("chat", text, EXAMPLES_chat)
    parser.add_argument("messages", nargs="*", metavar="MESSAGE", help="what to say, one message after the other")
    parser.add_argument("-o", "--out", metavar="FILE", help="where answered motions go; its suffix decides the format")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="same seed, same answers")
    add_model_options(parser)
    options = parser.parse_args(argv)
    out = writable(options.out) if options.out else None
    said = [read_message(text) for text in options.messages]

    with output_files([out] if out else []):
        model = load_model(options.model, options.device, options.profile)
        history: list[dict[str, Any]] = []
        for number, content in enumerate(said, start=1):
            _answer(model, history, content, out and numbered(out, number, len(said) == 1), options.seed)
        if not said:
            _converse(model, history, out, options.seed)
    return 0


def _converse(model: MotionGPT3, history: list[dict[str, Any]], out: Path | None, seed: int) -> None:
    """Answer line after line; a bad one is told and does not end the conversation."""
    asked, number = sys.stdin.isatty(), 1
    while True:
        if asked:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        try:
            _answer(model, history, read_message(line.strip()), out and numbered(out, number, False), seed)
            number += 1
        except MotionGPT3Error as error:
            print(f"error: {error}", file=sys.stderr)


def _answer(model: MotionGPT3, history: list[dict[str, Any]], content: list[Any], file: Path | None, seed: int) -> None:
    messages = latest([*history, {"role": "user", "content": content}])
    reply = model.chat(messages, seed=seed)
    if reply.motion is not None:
        length = f"a motion of {reply.motion.seconds:.2f} s"
        print(f"[{length}: {reply.motion.save(file)}]" if file else f"[{length}; -o FILE keeps it]")
    if reply.text or reply.motion is None:
        print(reply.text or "[no answer]")
    history[:] = [*messages, reply.message]


def latest(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The end of a conversation, as long as the model can read; the last message is always there."""
    from motiongpt3.models.chat import MAX_MESSAGES, MAX_MOTIONS

    def motions() -> int:
        return sum(not isinstance(part, str) for message in messages for part in message["content"])

    while len(messages) > 1 and (len(messages) > MAX_MESSAGES or motions() > MAX_MOTIONS):
        messages = messages[2:]
    return messages


def read_message(text: str) -> list[Any]:
    """A message's text and the motions that it attaches, in order.

    Raises:
        MotionGPT3Error: a file cannot be read, or the message is empty.
    """
    from motiongpt3.formats import load

    content: list[Any] = []
    end = 0
    for found in ATTACHED.finditer(text):
        content += [text[end : found.start()], load(found[1] or found[2])]
        end = found.end()
    content = [part for part in [*content, text[end:]] if not isinstance(part, str) or part]
    if not any(not isinstance(part, str) or part.strip() for part in content):
        raise MotionGPT3Error("the message is empty: say what you want, or attach a motion")
    return content


def numbered(out: Path, number: int, alone: bool) -> Path:
    """The file of answer `number`."""
    return out if alone else out.with_name(f"{out.stem}_{number}{out.suffix}")
