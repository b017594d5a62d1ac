"""What is done with motions that are there: play, look, choose a variant, open a file, take it away as a file."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

import viser
from viser import Icon

from motiongpt3.app.page import Page, show_made
from motiongpt3.app.stage import MAX_FIGURES, Look
from motiongpt3.app.uploads import SUFFIXES, read_upload
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.postprocess import MAX_SMOOTH_SECONDS, UNITS, Changes
from motiongpt3.service.motion_files import MAX_FPS, MAX_UPLOAD, Postprocessed, check_frames, postprocessed, to_bytes

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
    numbers = tuple(str(number + 1) for number in range(MAX_FIGURES))
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
            lambda motion: show_made(page, [motion]),
        )

    button.on_upload(lambda event: page.post(lambda: opened(event.target.value)))


FORMATS = {"BVH": "bvh", "GLB": "glb", "npz": "npz", "mp4": "mp4"}
"""Names of the formats and their suffixes."""


def add_export(page: Page) -> None:
    """Download the picked motion."""
    gui = page.gui
    wished = _add_postprocess(page)
    formats = gui.add_button_group("Download", tuple(FORMATS))
    told = gui.add_html("")

    def download(form: str) -> None:
        motion, suffix, wishes = page.motion, FORMATS.get(form, "bvh"), wished()
        check_frames([motion], wishes)
        name = f"{file_stem(motion)}.{suffix}"

        def done(made: tuple[bytes, Postprocessed]) -> None:
            data, (written, changes) = made
            page.client.send_file_download(name, data, save_immediately=True)
            told.content = changes_html(changes) if changes else ""
            size = f"{max(len(data) // 1000, 1)} kB"
            page.say(f"{name}: {written.seconds:.1f} s at {written.fps:g} frames per second, {size}", "done")

        page.work(f"Writing {name}", lambda _: page.workshop.submit(made, motion, suffix, wishes), done)

    def forget() -> None:
        told.content = ""

    page.shown.append(forget)
    formats.on_click(lambda event: page.post(lambda: download(event.target.value)))


def _add_postprocess(page: Page) -> Callable[[], dict[str, Any]]:
    """What can be done to the motion; the function gives the wishes as arguments of `finish`."""
    gui = page.gui
    smooth = gui.add_number(
        "Smooth (s)", 0.0, min=0.0, max=float(MAX_SMOOTH_SECONDS), step=0.05, hint="Average over so long; 0: as it is"
    )
    fps = gui.add_number("Frame rate", 0.0, min=0.0, max=float(MAX_FPS), step=0.001, hint="Per second; 0: as it is")
    loop = gui.add_checkbox("Loop", False, hint="A cycle that goes over into itself")
    feet = gui.add_checkbox("Fix feet", False, hint="Standing feet stay where they are")
    place = gui.add_checkbox("In place", False, hint="Without the way along the floor")
    return lambda: {
        "smooth": float(smooth.value) or None,
        "fps": float(fps.value) or None,
        "loop": bool(loop.value),
        "fix_feet": bool(feet.value),
        "in_place": bool(place.value),
    }


def made(motion: Motion, suffix: str, wishes: Mapping[str, Any]) -> tuple[bytes, Postprocessed]:
    """The bytes of a finished motion's file, and the motion; MotionGPT3Error if it cannot be finished so."""
    done = postprocessed(motion, wishes)
    return to_bytes(done.motion, suffix), done


def changes_html(changes: Changes) -> str:
    """A line for each measure that is another one now, to two decimals."""
    rows = []
    for name, both in changes.items():
        before, after = (f"{both[side]:.2f}" for side in ("before", "after"))
        if before != after:
            cells = name.replace("_", " "), before, "→", after, UNITS[name]
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    if not rows:
        return '<div style="padding: 0 1em; font-size: 0.75em">No measure changed.</div>'
    style = "margin: 0 1em 0.6em; font-size: 0.75em; border-spacing: 0.5em 0; text-align: right"
    return f'<table style="{style}">{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'


def file_stem(motion: Motion) -> str:
    """A plain name for a motion's file, from its caption."""
    words = re.findall(r"[a-z0-9]+", (motion.caption or "").lower())
    return "-".join(words)[:40].strip("-") or "motion"
