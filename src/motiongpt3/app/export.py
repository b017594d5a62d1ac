"""The picked motion as a file, finished as it is wished."""

from __future__ import annotations

import re

from motiongpt3.app.motion_files import to_bytes
from motiongpt3.app.page import Page
from motiongpt3.motion.motion import Motion

FORMATS = {"BVH": "bvh", "GLB": "glb", "npz": "npz", "mp4": "mp4"}
"""Names of the formats and their suffixes."""


def add_export(page: Page) -> None:
    """Download the picked motion."""
    gui = page.gui
    feet = gui.add_checkbox("Fix feet", False, hint="Standing feet stay where they are")
    place = gui.add_checkbox("In place", False, hint="Without the way along the floor")
    loop = gui.add_checkbox("Loop", False, hint="A cycle that goes over into itself")
    formats = gui.add_button_group("Download", tuple(FORMATS))

    def download(form: str) -> None:
        motion, suffix = page.motion, FORMATS.get(form, "bvh")
        wishes = bool(feet.value), bool(place.value), bool(loop.value)
        name = f"{file_stem(motion)}.{suffix}"

        def done(data: bytes) -> None:
            page.client.send_file_download(name, data, save_immediately=True)
            page.say(f"{name}: {max(len(data) // 1000, 1)} kB", "done")

        page.work(f"Writing {name}", lambda _: page.workshop.submit(made, motion, suffix, *wishes), done)

    formats.on_click(lambda event: page.post(lambda: download(event.target.value)))


def made(motion: Motion, suffix: str, fix_feet: bool, in_place: bool, loop: bool) -> bytes:
    """The bytes of a finished motion's file; MotionGPT3Error if it cannot be finished so."""
    from motiongpt3.motion.finish import finish

    return to_bytes(finish(motion, fix_feet=fix_feet, in_place=in_place, loop=loop), suffix)


def file_stem(motion: Motion) -> str:
    """A plain name for a motion's file, from its caption."""
    words = re.findall(r"[a-z0-9]+", (motion.caption or "").lower())
    return "-".join(words)[:40].strip("-") or "motion"
