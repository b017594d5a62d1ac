"""`motiongpt3 chat`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt

from motiongpt3.commands.options import Parser, add_model_options, load_model, output_files, writable
from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3

EXAMPLES = """
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
    parser = Parser("chat", text, EXAMPLES)
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
    from motiongpt3.models.chatting import MAX_MESSAGES, MAX_MOTIONS

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
