"""What a page asks of the model: generate, compose, continue, fill a gap, describe."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NamedTuple

import viser
from viser import Icon

from motiongpt3.app.controls import add_export
from motiongpt3.app.page import Page, checked_prompt, optional_prompt, show_made
from motiongpt3.app.stage import MAX_FIGURES
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.request import DrawOptions
from motiongpt3.service.motion_files import MAX_SECONDS


def add_drawing(page: Page) -> Callable[[], DrawOptions]:
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
    return lambda: DrawOptions(int(seed.value), float(guidance.value), int(steps.value))


MAX_PROMPTS = 6
"""Prompts of one motion at most: as many rows as fit on the page."""
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


def add_compose(page: Page, drawing: Callable[[], DrawOptions]) -> None:
    """A list of prompts with seconds; the rows are there from the start, and as many as are used are shown."""
    gui = page.gui
    rows = [_row(page, number) for number in range(MAX_PROMPTS)]
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
        add.disabled = used == MAX_PROMPTS

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
            lambda progress: page.engine.compose(parts, on_progress=progress, **vars(drawn)),
            lambda motions: show_made(page, motions),
        )

    def listen(number: int, row: _Row) -> None:
        row.actions.on_click(lambda event: page.post(lambda: act(number, str(event.target.value))))

    for number, row in enumerate(rows):
        listen(number, row)
    add.on_click(lambda _: page.post(lambda: arrange([*(row.filled for row in rows[:used]), ("", 3.0)][:MAX_PROMPTS])))
    button.on_click(lambda _: page.post(compose))


def _row(page: Page, number: int) -> _Row:
    gui = page.gui
    with gui.add_folder(f"{number + 1}", visible=number < len(_FIRST)) as folder:
        prompt = gui.add_text("Prompt", _FIRST[number] if number < len(_FIRST) else "")
        seconds = gui.add_slider("Seconds", 0.0, 10.0, 0.5, 3.0, hint="0: the model decides")
        actions = gui.add_button_group("", _ACTIONS)
    return _Row(folder, prompt, seconds, actions)


def add_panels(page: Page) -> None:
    """A tab for each thing that the model can do, and one for the files."""
    tasks = page.engine.tasks
    tabs = page.gui.add_tab_group()
    drawing = add_drawing(page)
    with tabs.add_tab("Generate"):
        add_generate(page, drawing)
    if "compose" in tasks:
        with tabs.add_tab("Compose"):
            add_compose(page, drawing)
    if "predict" in tasks or "inbetween" in tasks:
        with tabs.add_tab("Continue"):
            if "predict" in tasks:
                add_predict(page, drawing)
            if "inbetween" in tasks:
                add_inbetween(page, drawing)
    if "caption" in tasks:
        with tabs.add_tab("Describe"):
            add_describe(page)
    with tabs.add_tab("Export"):
        add_export(page)


def add_generate(page: Page, drawing: Callable[[], DrawOptions]) -> None:
    """A sentence to one motion or several."""
    gui, config = page.gui, page.engine.model.config
    with gui.add_form(None) as form:
        prompt = gui.add_text("Prompt", "a person walks forward and waves")
        most = float(min(config.max_seconds, MAX_SECONDS))
        seconds = gui.add_slider("Seconds", min(0.5, most), most, 0.5, min(4.0, most))
        decide = gui.add_checkbox("Any length", False, hint="Let the model decide how long the motion is")
        variants = gui.add_slider("Variants", 1, MAX_FIGURES, 1, 1, hint="Each with a seed of its own, side by side")
        button = gui.add_button("Generate", icon=Icon.WAND)

    def generate() -> None:
        words, drawn = checked_prompt(prompt.value), drawing()
        page.work(
            "Generating",
            lambda progress: page.engine.generate(
                [words],
                seconds=None if decide.value else seconds.value,
                samples=min(max(int(variants.value), 1), MAX_FIGURES),
                on_progress=progress,
                **vars(drawn),
            ),
            lambda motions: show_made(page, motions),
        )

    def let_decide() -> None:
        seconds.disabled = bool(decide.value)

    button.on_click(lambda _: page.post(generate))
    form.on_submit(lambda _: page.post(generate))
    decide.on_update(lambda _: page.post(let_decide))


def add_predict(page: Page, drawing: Callable[[], DrawOptions]) -> None:
    """The picked motion goes on."""
    gui = page.gui
    with gui.add_folder("Go on"):
        prompt = gui.add_text("Prompt", "", hint="Empty: whatever fits")
        seconds = gui.add_slider("Seconds", 0.5, 10.0, 0.5, 3.0)
        button = gui.add_button("Continue", icon=Icon.PLAYER_TRACK_NEXT)

    def go_on() -> None:
        motion, words, drawn = page.motion, optional_prompt(prompt.value), drawing()
        page.work(
            "Continuing",
            lambda progress: page.engine.predict(
                motion, float(seconds.value), words, on_progress=progress, **vars(drawn)
            ),
            lambda motions: show_made(page, motions),
        )

    button.on_click(lambda _: page.post(go_on))


def add_inbetween(page: Page, drawing: Callable[[], DrawOptions]) -> None:
    """A part of the picked motion is made anew, so that it leads from what is before to what is after."""
    gui = page.gui
    with gui.add_folder("In-between"):
        gap: Any = gui.add_multi_slider("Gap (s)", 0.0, 4.0, 0.05, (1.5, 2.5), min_range=0.05, hint="What is made anew")
        prompt = gui.add_text("Prompt", "", hint="What happens in the gap; empty: whatever fits")
        button = gui.add_button("Fill the gap", icon=Icon.ARROWS_JOIN)

    def begin() -> None:
        seconds = round(page.motion.seconds, 2)
        gap.max = max(seconds, 0.1)
        gap.value = (round(0.35 * seconds, 2), round(0.65 * seconds, 2))
        label()

    def label() -> None:
        button.label = "Fill the gap from {:.2f} to {:.2f} s".format(*sorted(gap.value))

    def fill() -> None:
        motion, words, drawn = page.motion, optional_prompt(prompt.value), drawing()
        first, last = (round(float(at) * motion.fps) for at in sorted(gap.value))
        if not 0 < first < last < len(motion):
            raise MotionGPT3Error("the gap must lie within the motion: something stays before and after it")
        page.work(
            "Filling the gap",
            lambda progress: page.engine.inbetween(
                motion[:first], motion[last:], (last - first) / motion.fps, words, on_progress=progress, **vars(drawn)
            ),
            lambda motions: show_made(page, motions),
        )

    page.shown.append(begin)
    gap.on_update(lambda _: page.post(label))
    button.on_click(lambda _: page.post(fill))


def add_describe(page: Page) -> None:
    """What happens in the picked motion, in words."""
    button = page.gui.add_button("Describe the motion", icon=Icon.MESSAGE)
    answer = page.gui.add_html("")

    def described(captions: list[list[str]]) -> None:
        text = html.escape(captions[0][0])
        answer.content = f'<blockquote style="margin: 0.6em 1em; font-size: 1em">{text}</blockquote>'
        page.say("Described.", "done")

    def describe() -> None:
        motion = page.motion
        page.work("Describing", lambda progress: page.engine.caption([motion], on_progress=progress), described)

    def forget() -> None:
        answer.content = ""

    page.shown.append(forget)
    button.on_click(lambda _: page.post(describe))
