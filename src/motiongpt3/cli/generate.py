"""The commands that ask the model: generate, predict, inbetween, compose, caption and chat."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from jsonargparse.typing import NonNegativeFloat, PositiveInt
from tqdm import tqdm

from motiongpt3.cli.options import (
    ConstraintOptions,
    CountArg,
    DrawingOptions,
    FileArg,
    FileOptions,
    ModelOptions,
    OutArg,
    OutputOptions,
    PostprocessOptions,
    PromptArg,
    ReadingOptions,
    SecondsArg,
    SeedArg,
    bar,
    check_prompts,
    output_files,
    tell,
    writable,
    write_json,
    written_entry,
)
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save, suffix_of
from motiongpt3.motion.motion import Motion

SamplesArg = Annotated[int, Arg("K", PositiveInt)]


def generate(
    prompts: list[PromptArg],
    *,
    output: OutputOptions,
    seconds: SecondsArg | None = None,
    samples: SamplesArg = 1,
    hold: ConstraintOptions,
    options: DrawingOptions,
) -> None:
    """Make motions that do what the prompts say.

    Args:
        prompts: what the person does, in an English sentence
        out: file to write; its suffix decides the format ({writable}); may be repeated. Several prompts or samples
            write NAME_000_00.ext, prompt first, then sample
        seconds: duration, up to the max_seconds of `motiongpt3 info`; if left out, length words in the prompt are
            followed (for three seconds, with 80 frames), and without any the model decides
        samples: motions per prompt
        seed: same seed, same motion; sample k uses N + k

    Examples:
      motiongpt3 generate "a person walks forward and waves with the right hand" -o wave.mp4 -o wave.bvh
      motiongpt3 generate "someone squats" --seconds 4 --seed 7 -o squat.npz
      motiongpt3 generate "a person walks forward" --seconds 6 --fix-feet --loop --in-place --fps 30 -o walk.glb
      motiongpt3 generate "a person walks" --seconds 4 --constraints path.json --report cost.json -o walk.bvh
      motiongpt3 generate "a person jumps" "a person kicks" --samples 3 -o out/clip.bvh
          writes out/clip_000_00.bvh … out/clip_001_02.bvh: the prompt, then the sample
    """
    from motiongpt3.models.request import check_generate

    check_prompts(prompts)
    draw = replace(options.draw, progress=bar("generating", "batch"))
    alone, held = len(prompts) == samples == 1, hold.read()
    told = [] if hold.report is None else [Path(hold.report)]
    with output_files(*(_numbered(file, len(prompts) - 1, samples - 1, alone) for file in output.out), *told):
        check_generate(options.model.settings(), prompts, seconds, samples, draw)
        made = options.model.load().generate(prompts, seconds, samples, held, hold.best_effort, **vars(draw))
        raw: list[Any] = made if isinstance(made, list) else [made]
        motions = [options.postprocess.apply(motion) for motion in raw]
        written = []
        for number, motion in enumerate(tqdm(motions, "writing", unit="motion", disable=None)):
            prompt, sample = divmod(number, samples)
            asked = {"prompt": prompts[prompt], "seed": draw.seed + sample}
            changed = options.postprocess.changes([raw[number]], [motion])
            if held:
                changed = {**changed, "constraints": raw[number].constraint_report.as_dict()}
            for path in (_numbered(file, prompt, sample, alone) for file in output.out):
                entry = written_entry(save(motion, path, **vars(options.files)), motion)
                written.append({"file": entry["file"], **asked, **entry, **changed})
        for file in told:
            write_json(file, [entry["constraints"] for entry in written[:: len(output.out)]], indent=1)
    lines = [f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s" for entry in written]
    lines += [str(motion.constraint_report) for motion in raw if held]
    tell(output.json, written, *lines, *options.postprocess.table(options.postprocess.changes(raw, motions)))


def _numbered(out: str, prompt: int, sample: int, alone: bool) -> Path:
    """The file of one motion; MotionGPT3Error if its format cannot be written."""
    path = writable(out)
    suffix = path.name[-len(suffix_of(path)) :]
    return path if alone else path.with_name(f"{path.name.removesuffix(suffix)}_{prompt:03d}_{sample:02d}{suffix}")


# ---------------------------------------------------------------------------------------- predict, inbetween, compose


def predict(
    file: FileArg,
    *,
    seconds: SecondsArg,
    prompt: Annotated[str | None, Arg("TEXT")] = None,
    reading: ReadingOptions,
    output: OutputOptions,
    options: DrawingOptions,
) -> None:
    """Continue a motion. Its own frames come back exactly, unless the whole is finished (--fix-feet, --in-place,
    --loop, --fps, --smooth), which changes them.

    Args:
        file: a motion of one second or more; its last two seconds count
        seconds: how much more; any length
        prompt: what happens in the new part; free if left out

    Examples:
      motiongpt3 predict walk.bvh --seconds 3 -o longer.bvh -o longer.mp4
      motiongpt3 predict walk.bvh --seconds 3 --prompt "a person sits down" -o sits.bvh
      motiongpt3 predict walk.bvh --seconds 3 --fix-feet --fps 30 -o longer.glb
    """
    check_prompts([prompt] if prompt is not None else [])
    with output.files() as outs:
        from motiongpt3.models.completion import READ_SECONDS
        from motiongpt3.models.request import check_predict

        motion, draw = reading.load(file), replace(options.draw, progress=bar("drawing", "window"))
        check_predict(options.model.settings(), motion, seconds, prompt, draw)
        network = options.model.load()
        longer = network.predict(motion, seconds, prompt, **vars(draw))
        parts: dict[str, Any] = {"given": len(motion), "new": len(longer) - len(motion)}
        if "caption" in network.tasks:
            parts["read_seconds"] = min(motion.seconds, READ_SECONDS)
        _write(longer, outs, parts, output, options)


def inbetween(
    files: list[FileArg],
    *,
    seconds: SecondsArg | None = None,
    gap: Annotated[tuple[float, float] | None, Arg(("FROM", "TO"), NonNegativeFloat)] = None,
    prompt: Annotated[str | None, Arg("TEXT")] = None,
    reading: ReadingOptions,
    output: OutputOptions,
    options: DrawingOptions,
) -> None:
    """Fill a gap. The frames on both sides come back exactly, unless the whole is finished (--fix-feet, --in-place,
    --loop, --fps, --smooth), which changes them.

    Args:
        files: the motions before and after, or one with --gap
        seconds: length of the gap; with --gap its own
        gap: seconds between which FILE is drawn anew
        prompt: what happens in the new part; free if left out

    Examples:
      motiongpt3 inbetween start.bvh end.bvh --seconds 2 -o joined.bvh
      motiongpt3 inbetween clip.bvh --gap 1.5 3 -o mended.bvh
          the frames from 1.5 s to 3 s are drawn anew, all others stay; --seconds makes the gap longer or shorter
    """
    check_prompts([prompt] if prompt is not None else [])
    with output.files() as outs:
        from motiongpt3.models.request import check_inbetween

        start, end, length = _sides([reading.load(file) for file in files], gap, seconds)
        draw = replace(options.draw, progress=bar("drawing", "window"))
        check_inbetween(options.model.settings(), start, end, length, prompt, draw)
        whole = options.model.load().inbetween(start, end, length, prompt, **vars(draw))
        new = len(whole) - len(start) - len(end)
        _write(whole, outs, {"before": len(start), "new": new, "after": len(end)}, output, options)


def compose(
    prompts: list[PromptArg],
    *,
    output: OutputOptions,
    options: DrawingOptions,
) -> None:
    """Make one continuous motion of several prompts.

    Args:
        prompts: what the person does, in order; "PROMPT: S" gives it S seconds

    Examples:
      motiongpt3 compose "walk forward: 3" "turn left" "sit down: 2.5" -o out.mp4
          three seconds of walking, then a turn of a length that the model decides, then 2.5 s
    """
    asked = [timed(text) for text in prompts]
    check_prompts([item if isinstance(item, str) else item[0] for item in asked])
    with output.files() as outs:
        from motiongpt3.models import completion
        from motiongpt3.models.request import check_compose

        draw = replace(options.draw, progress=bar("drawing", "prompt"))
        check_compose(options.model.settings(), asked, draw)
        motion, spans = completion.compose(options.model.load(), asked, draw)
        _write(motion, outs, {"prompts": [vars(span) for span in spans]}, output, options)


TIMED = re.compile(r"(.*):\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?:s|seconds?)?\s*", re.DOTALL | re.IGNORECASE)
"""A prompt, a colon, seconds."""


def timed(text: str) -> str | tuple[str, float]:
    """A prompt of the command line: "walk forward: 3" is ("walk forward", 3.0), other text is itself.

    Raises:
        MotionGPT3Error: zero or endless seconds, or nothing before the colon.
    """
    found = TIMED.fullmatch(text)
    if not found:
        return text
    seconds = float(found[2])
    if not found[1].strip():
        raise MotionGPT3Error(f"there is no prompt before the colon in {text[:40]!r}")
    if not seconds > 0:
        raise MotionGPT3Error(f"seconds must be more than 0, not {seconds:g}, in {text[:40]!r}")
    return found[1].strip(), seconds


def _sides(given: Sequence[Motion], gap: Sequence[float] | None, seconds: float | None) -> tuple[Motion, Motion, float]:
    """The motions before and after the gap, and its length."""
    if gap is None:
        if len(given) != 2:
            raise MotionGPT3Error("give two files, the motions before and after, or one with --gap FROM TO")
        if seconds is None:
            raise MotionGPT3Error("missing: --seconds, the length of the gap")
        return given[0], given[1], seconds
    if len(given) != 1:
        raise MotionGPT3Error("--gap FROM TO is for one file")
    motion = given[0]
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


def _write(
    drawn: Motion, outs: Sequence[Path], parts: dict[str, Any], output: OutputOptions, options: DrawingOptions
) -> None:
    """Finish as asked, save to each file and say what it holds; `parts` counts frames as they were drawn."""
    motion = options.postprocess.apply(drawn)
    changed = options.postprocess.changes([drawn], [motion])
    written = []
    for out in outs:
        entry = written_entry(save(motion, out, **vars(options.files)), motion)
        before = {"drawn": {"frames": len(drawn), "fps": drawn.fps}} if options.postprocess else {}
        written.append({**entry, **parts, **before, **changed})
    told = ", ".join(f"{count} {name}" for name, count in parts.items() if isinstance(count, int))
    told += " before finishing" if told and options.postprocess else ""
    told += f"; the model read the last {parts['read_seconds']:g} s" if "read_seconds" in parts else ""
    note = f" ({told})" if told else ""
    lines = [f"{entry['file']}: {entry['frames']} frames, {entry['seconds']:.2f} s{note}" for entry in written]
    note = " before finishing" if options.postprocess else ""
    for span in parts.get("prompts", []):
        lines.append(f"  {span['start'] / drawn.fps:.2f} to {span['end'] / drawn.fps:.2f} s{note}: {span['prompt']}")
    tell(output.json, written, *lines, *options.postprocess.table(changed))


# ------------------------------------------------------------------------------------------------------ caption, chat


def caption(
    files: list[FileArg],
    *,
    samples: SamplesArg = 1,
    beams: Annotated[int, Arg("B", PositiveInt)] = 1,
    candidates: CountArg | None = None,
    seed: SeedArg = 0,
    reading: ReadingOptions,
    model: ModelOptions,
    json: bool = False,
) -> None:
    """Tell in English what happens in motions, from any file that can be read.

    Args:
        files: a motion
        samples: captions per motion
        beams: width of the beam search
        candidates: captions to draw, of which the one that fits the motion best is kept; 1 takes the likeliest words
            (default: as the model's configuration says)
        seed: of the draws
        json: print the captions as JSON

    Examples:
      motiongpt3 caption walk.bvh
      motiongpt3 caption clips/*.npz --samples 3
      motiongpt3 caption walk.bvh --beams 4 --json
    """
    from motiongpt3.models.captioning import split

    motions = [reading.load(file) for file in files]
    network = model.load()
    drawn: dict[str, Any] = {"beams": beams, "seed": seed, "candidates": candidates}
    found = network.caption(motions, samples, **drawn, progress=bar("reading", "batch"))
    each = [found[i : i + samples] for i in range(0, len(found), samples)]
    parts = [len(split(motion, network.config)) for motion in motions]
    rows = list(zip(files, each, parts, strict=True))
    lines = []
    for file, texts, count in rows:
        note = f" (in {count} parts)" if count > 1 else ""
        lines += [f"{file}{note}: {text}" if len(files) > 1 or note else text for text in texts]
    tell(json, [{"file": file, "captions": texts, "parts": count} for file, texts, count in rows], *lines)


ATTACHMENT = re.compile(r"""(?<!\w)@(?:"([^"]+)"|(\S+?)(?=[,.;:!?)]*(?:\s|$)))""")
"""@"FILE" or @FILE, a sentence's marks behind it not included; an address such as me@home is none."""


def chat(
    messages: list[Annotated[str, Arg("MESSAGE")]] | None = None,
    *,
    out: OutArg | None = None,
    seed: SeedArg = 0,
    reading: ReadingOptions,
    files: FileOptions,
    postprocess: PostprocessOptions,
    model: ModelOptions,
) -> None:
    """Talk with the model. @FILE or @"FILE" in a message attaches a motion. Without a message, lines are read.

    Args:
        messages: what to say, one message after the other
        out: where answered motions go; its suffix decides the format
        seed: same seed, same answers

    Examples:
      motiongpt3 chat "Describe this motion: @walk.bvh"
      motiongpt3 chat "Show me how somebody waves, then tell me what I see." -o wave.mp4
      motiongpt3 chat -o reply.bvh
          a conversation, a line a message; motions go to reply_1.bvh, reply_2.bvh …
    """
    path = writable(out) if out else None
    said = [read_message(text, reading.load) for text in messages or []]
    with output_files(path):
        network = model.load()
        history: list[dict[str, Any]] = []

        def answer(content: list[Any], number: int) -> None:
            """Ask, print what is answered and keep a motion; the conversation goes on from there."""
            asked = latest([*history, {"role": "user", "content": content}])
            reply = network.chat(asked, seed=seed)
            if reply.motion is not None:
                motion = postprocess.apply(reply.motion)
                length = f"a motion of {motion.seconds:.2f} s"
                alone = len(said) == 1
                file = path and (path if alone else path.with_name(f"{path.stem}_{number}{path.suffix}"))
                print(f"[{length}: {save(motion, file, **vars(files))}]" if file else f"[{length}; -o FILE keeps it]")
            if reply.text or reply.motion is None:
                print(reply.text or "[no answer]")
            history[:] = [*asked, reply.message]

        for number, content in enumerate(said, start=1):
            answer(content, number)
        if not said:
            _converse(answer, reading.load)


def _converse(answer: Callable[[list[Any], int], None], load: Callable[[str], Motion]) -> None:
    """Answer line after line; a bad one is told and does not end the conversation."""
    number = 1
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        try:
            answer(read_message(line.strip(), load), number)
            number += 1
        except MotionGPT3Error as error:
            print(f"error: {error}", file=sys.stderr)


def latest(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The end of a conversation, as long as the model can read; the last message is always there."""
    from motiongpt3.models.chat import MAX_MESSAGES, MAX_MOTIONS

    def motions() -> int:
        return sum(not isinstance(part, str) for message in messages for part in message["content"])

    while len(messages) > 1 and (len(messages) > MAX_MESSAGES or motions() > MAX_MOTIONS):
        messages = messages[2:]
    return messages


def read_message(text: str, load: Callable[[str], Motion] = load) -> list[Any]:
    """A message's text and the motions that it attaches, in order.

    Raises:
        MotionGPT3Error: a file cannot be read, or the message is empty.
    """
    content: list[Any] = []
    end = 0
    for found in ATTACHMENT.finditer(text):
        content += [text[end : found.start()], load(found[1] or found[2])]
        end = found.end()
    content = [part for part in [*content, text[end:]] if not isinstance(part, str) or part]
    if not any(not isinstance(part, str) or part.strip() for part in content):
        raise MotionGPT3Error("the message is empty: say what you want, or attach a motion")
    return content
