"""Watching: play, pause, scrub, speed, what figures look like, which variant to keep."""

from __future__ import annotations

from typing import Any, get_args

from viser import Icon

from motiongpt3.app.figure import Look
from motiongpt3.app.page import Page

_SPEEDS = {"¼": 0.25, "½": 0.5, "1": 1.0, "2": 2.0}


def add_playback(page: Page) -> None:
    """The bar below the figures."""
    gui, playback = page.gui, page.playback
    panel = gui.add_panel()
    with panel.add_tab("Playback"):
        time: Any = gui.add_slider("Time (s)", 0.0, 1.0, 0.01, 0.0, disabled=True)
        button = gui.add_button("Play", icon=Icon.PLAYER_PLAY, disabled=True)
        speed = gui.add_button_group("Speed", tuple(_SPEEDS))
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

    @time.on_update
    def _(event) -> None:  # type: ignore[no-untyped-def]
        if event.client is not None:  # not from `follow`
            page.post(lambda: seek(float(time.value)))


def add_view(page: Page) -> None:
    """What figures look like, and which of several is kept."""
    gui, stage = page.gui, page.stage
    with gui.add_folder("View"):
        variant: Any = gui.add_dropdown("Variant", ("1",), visible=False, hint="The one that is exported and continued")
        keep = gui.add_button("Keep only this one", visible=False, color="gray")
        look = gui.add_dropdown("Figure", tuple(name.capitalize() for name in get_args(Look)))
        trails = gui.add_checkbox("Trails", stage.trails, hint="The ways of hands, feet and pelvis")
        follow = gui.add_checkbox("Follow", stage.follow, hint="The person stays in the middle")

    def begin() -> None:
        several = len(stage.motions) > 1
        variant.options = tuple(str(number + 1) for number in range(len(stage.motions)))
        variant.value = "1"
        variant.visible = keep.visible = several

    def pick() -> None:
        number = variant.options.index(variant.value)
        if number != stage.picked and number < len(stage.motions):
            stage.pick(number)
            page.refresh()

    def dress() -> None:
        wish = look.value.lower()
        stage.look = "skeleton" if wish == "skeleton" else "mannequin"
        stage.trails, stage.follow = bool(trails.value), bool(follow.value)
        stage.build()
        page.refresh()

    page.shown.append(begin)
    variant.on_update(lambda _: page.post(pick))
    keep.on_click(lambda _: page.post(lambda: page.show([page.motion])))
    for box in (look, trails, follow):
        box.on_update(lambda _: page.post(dress))
