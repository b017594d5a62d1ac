"""How motions are drawn: controls that all tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from motiongpt3.app.page import Page


class Drawing(TypedDict):
    """What every task of `Engine` that draws motions takes."""

    seed: int
    guidance: float
    steps: int


def add_drawing(page: Page) -> Callable[[], Drawing]:
    """One group for the whole page; the function tells what is set in it."""
    gui, config = page.gui, page.engine.model.config
    with gui.add_folder("Drawing"):
        seed = gui.add_number("Seed", 0, min=0, step=1, hint="The same seed gives the same motion")
        guidance = gui.add_number(
            "Guidance", float(config.guidance), min=0.0, max=100.0, step=0.5, hint="How strictly to follow the words"
        )
        steps = gui.add_number(
            "Steps", int(config.steps), min=1, max=1000, step=1, hint="Sampling steps; more are finer and slower"
        )
    return lambda: Drawing(seed=int(seed.value), guidance=float(guidance.value), steps=int(steps.value))
