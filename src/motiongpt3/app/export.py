"""The picked motion as a file, finished as it is wished, and what that changed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

from motiongpt3.app.finishing import Finished, check_frames, finished
from motiongpt3.app.limits import MAX_FPS
from motiongpt3.app.motion_files import to_bytes
from motiongpt3.app.page import Page
from motiongpt3.motion.changes import UNITS, Changes
from motiongpt3.motion.finish import SMOOTHEST
from motiongpt3.motion.motion import Motion

FORMATS = {"BVH": "bvh", "GLB": "glb", "npz": "npz", "mp4": "mp4"}
"""Names of the formats and their suffixes."""


def add_export(page: Page) -> None:
    """Download the picked motion."""
    gui = page.gui
    wished = _add_finishing(page)
    formats = gui.add_button_group("Download", tuple(FORMATS))
    told = gui.add_html("")

    def download(form: str) -> None:
        motion, suffix, wishes = page.motion, FORMATS.get(form, "bvh"), wished()
        check_frames([motion], wishes)
        name = f"{file_stem(motion)}.{suffix}"

        def done(made: tuple[bytes, Finished]) -> None:
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


def _add_finishing(page: Page) -> Callable[[], dict[str, Any]]:
    """What can be done to the motion; the function gives the wishes as arguments of `finish`."""
    gui = page.gui
    smooth = gui.add_number(
        "Smooth (s)", 0.0, min=0.0, max=float(SMOOTHEST), step=0.05, hint="Average over so long; 0: as it is"
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


def made(motion: Motion, suffix: str, wishes: Mapping[str, Any]) -> tuple[bytes, Finished]:
    """The bytes of a finished motion's file, and the motion; MotionGPT3Error if it cannot be finished so."""
    done = finished(motion, wishes)
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
