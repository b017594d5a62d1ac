"""What panels share: prompts are checked, and what was made is shown."""

from __future__ import annotations

from collections.abc import Sequence

from motiongpt3.app.limits import MAX_PROMPT
from motiongpt3.app.page import Page
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion


def finished(page: Page, motions: Sequence[Motion]) -> None:
    """Show what was made, and say so."""
    page.show(motions)
    lengths = ", ".join(dict.fromkeys(f"{motion.seconds:.1f} s" for motion in motions))
    page.say(f"{motions[0].caption or 'A motion'}: {lengths}", "done")


def checked_prompt(text: str) -> str:
    """A prompt; MotionGPT3Error if it is longer than MAX_PROMPT. An empty one is the engine's to refuse."""
    if len(text) > MAX_PROMPT:
        raise MotionGPT3Error(f"the prompt has {len(text)} characters; at most {MAX_PROMPT} are read")
    return text


def optional_prompt(text: str) -> str | None:
    """A prompt, or None where nothing is written."""
    return checked_prompt(text) if text.strip() else None
