"""One motion of several prompts: rows that are filled, moved and taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import viser
from viser import Icon

from motiongpt3.app.drawing import Drawing
from motiongpt3.app.page import Page
from motiongpt3.app.words import checked_prompt, finished
from motiongpt3.errors import MotionGPT3Error

ROWS = 6
"""Most prompts of one motion."""
_FIRST = ("a person walks forward", "a person jumps", "a person bows")
_ACTIONS = ("Up", "Down", "Remove")


class _Row(NamedTuple):
    folder: viser.GuiFolderHandle
    prompt: Any  # mypy takes the value of viser's inputs for read-only
    seconds: Any
    actions: viser.GuiButtonGroupHandle

    @property
    def filled(self) -> tuple[str, float]:
        return self.prompt.value, self.seconds.value

    def fill(self, part: tuple[str, float]) -> None:
        self.prompt.value, self.seconds.value = part


def add_compose(page: Page, drawing: Callable[[], Drawing]) -> None:
    """A list of prompts with seconds; the rows are there from the start, and as many as are used are shown."""
    gui = page.gui
    rows = [_row(page, number) for number in range(ROWS)]
    used = len(_FIRST)
    add = gui.add_button("Add a prompt", icon=Icon.PLUS, color="gray")
    button = gui.add_button("Compose", icon=Icon.LIST)

    def arrange(parts: list[tuple[str, float]]) -> None:
        nonlocal used
        used = len(parts)
        for row, part in zip(rows, parts, strict=False):
            row.fill(part)
        for number, row in enumerate(rows):
            row.folder.visible = number < used
        add.disabled = used == ROWS

    def act(number: int, action: str) -> None:
        parts = [row.filled for row in rows[:used]]
        other = number + {"Up": -1, "Down": 1}.get(action, 0)
        if action == "Remove" and used > 1:
            del parts[number]
        elif 0 <= other < used:
            parts[number], parts[other] = parts[other], parts[number]
        arrange(parts)

    def compose() -> None:
        parts = [
            (checked_prompt(prompt), float(seconds) or None) for prompt, seconds in (r.filled for r in rows[:used])
        ]
        if not all(prompt.strip() for prompt, _ in parts):
            raise MotionGPT3Error("a prompt is empty: write something, or remove it")
        drawn = drawing()
        page.work(
            "Composing",
            lambda progress: page.engine.compose(parts, on_progress=progress, **drawn),
            lambda motions: finished(page, motions),
        )

    def listen(number: int, row: _Row) -> None:
        row.actions.on_click(lambda event: page.post(lambda: act(number, str(event.target.value))))

    for number, row in enumerate(rows):
        listen(number, row)
    add.on_click(lambda _: page.post(lambda: arrange([*(row.filled for row in rows[:used]), ("", 3.0)][:ROWS])))
    button.on_click(lambda _: page.post(compose))


def _row(page: Page, number: int) -> _Row:
    gui = page.gui
    with gui.add_folder(f"{number + 1}", visible=number < len(_FIRST)) as folder:
        prompt = gui.add_text("Prompt", _FIRST[number] if number < len(_FIRST) else "")
        seconds = gui.add_slider("Seconds", 0.0, 10.0, 0.5, 3.0, hint="0: the model decides")
        actions = gui.add_button_group("", _ACTIONS)
    return _Row(folder, prompt, seconds, actions)
