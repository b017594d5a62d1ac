"""Watching: play, pause, scrub, speed, what figures look like, which variant to keep, a file to watch."""

from __future__ import annotations

from typing import Any

import viser
from viser import Icon

from motiongpt3.app.figure import Look
from motiongpt3.app.limits import MAX_UPLOAD
from motiongpt3.app.page import Page
from motiongpt3.app.stage import MOST
from motiongpt3.app.uploads import SUFFIXES, read_upload
from motiongpt3.app.words import finished

_SPEEDS = {"¼": 0.25, "½": 0.5, "1": 1.0, "2": 2.0}


def add_playback(page: Page) -> None:
    """The bar below the figures."""
    gui, playback = page.gui, page.playback
    panel = gui.add_panel()
    with panel.add_tab("Playback"):
        time: Any = gui.add_slider("Time (s)", 0.0, 1.0, 0.01, 0.0, disabled=True)
        button = gui.add_button("Play", icon=Icon.PLAYER_PLAY, disabled=True)
        speed = gui.add_button_group("Speed", tuple(_SPEEDS))
    with panel.add_tab("View"):
        _add_look(page)
    panel.float(x=15, y=-15, width=430)

    def label() -> None:
        playing = playback.playing
        button.label, button.icon = ("Pause", Icon.PLAYER_PAUSE) if playing else ("Play", Icon.PLAYER_PLAY)

    def begin() -> None:
        time.max = max(round(playback.length, 2), 0.01)
        time.disabled = button.disabled = False
        label()

    def follow() -> None:
        time.value = round(playback.time, 2)

    def toggle() -> None:
        playback.toggle()
        label()

    def seek(to: float) -> None:
        playback.playing = False
        playback.seek(to)
        page.stage.at(playback.time)
        label()

    def hurry(name: str) -> None:
        playback.speed = _SPEEDS.get(name, 1.0)

    page.shown.append(begin)
    page.refreshed.append(follow)
    button.on_click(lambda _: page.post(toggle))
    speed.on_click(lambda event: page.post(lambda: hurry(event.target.value)))

    def scrubbed(event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:  # it was not `follow`
            page.post(lambda: seek(float(time.value)))

    time.on_update(scrubbed)


def _add_look(page: Page) -> None:
    """What figures look like, and where one looks."""
    gui, stage = page.gui, page.stage
    looks: dict[str, Look] = {"Mannequin": "mannequin", "Skeleton": "skeleton"}
    look = gui.add_button_group("Figure", tuple(looks))
    trails = gui.add_checkbox("Trails", stage.trails, hint="The ways of hands, feet and pelvis")
    follow = gui.add_checkbox("Follow", stage.follow, hint="The person stays in the middle")

    def dress() -> None:
        stage.trails, stage.follow = bool(trails.value), bool(follow.value)
        stage.build()
        page.refresh()

    def choose(name: str) -> None:
        stage.look = looks.get(name, stage.look)
        dress()

    look.on_click(lambda event: page.post(lambda: choose(event.target.value)))
    for box in (trails, follow):
        box.on_update(lambda _: page.post(dress))


def add_choice(page: Page) -> None:
    """Which motion is worked with: one of several variants, or a file of the user's."""
    gui, stage = page.gui, page.stage
    numbers = tuple(str(number + 1) for number in range(MOST))
    variant = gui.add_button_group("Variant", numbers, visible=False, hint="The one that is exported and continued")
    keep = gui.add_button("Keep only this one", visible=False, color="gray")
    _add_open(page)

    def begin() -> None:
        several = len(stage.motions) > 1
        variant.options = numbers[: len(stage.motions)]
        variant.visible = keep.visible = several

    def pick(name: str) -> None:
        number = numbers.index(name)
        if number != stage.picked and number < len(stage.motions):
            stage.pick(number)
            page.refresh()

    page.shown.append(begin)
    variant.on_click(lambda event: page.post(lambda: pick(event.target.value)))
    keep.on_click(lambda _: page.post(lambda: page.show([page.motion])))


def _add_open(page: Page) -> None:
    """A button; the file's motion is shown as a generated one would be."""
    gui = page.gui
    kinds = ", ".join(SUFFIXES)
    button = gui.add_upload_button(
        "Open a motion file",
        mime_type=",".join(f".{suffix}" for suffix in SUFFIXES),
        icon=Icon.FOLDER_OPEN,
        color="gray",
        hint=f"{kinds}, at most {MAX_UPLOAD // 10**6} MB",
    )

    def opened(file: viser.UploadedFile) -> None:
        page.work(
            "Reading the file",
            lambda _: page.workshop.submit(read_upload, file.name, file.content),
            lambda motion: finished(page, [motion]),
        )

    button.on_upload(lambda event: page.post(lambda: opened(event.target.value)))
