"""One browser's page: its own motions, its own work, and one thread that does everything on it in order."""

from __future__ import annotations

import html
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any

import viser
from viser import Icon

from motiongpt3.app.stage import Stage
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.service.engine import Busy, Closed, Engine, Progress
from motiongpt3.service.motion_files import MAX_PROMPT


class Playback:
    """Where a motion is being watched; it begins again at its end.

    Attributes:
        time: seconds from the start.
        length: seconds until the last frame; 0 with nothing to play.
        playing: whether time goes on.
        speed: seconds of the motion per second; 1 is as it was.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.length = 0.0
        self.playing = False
        self.speed = 1.0

    def start(self, length: float) -> None:
        """Play something of this length in seconds from its start."""
        self.time, self.length, self.playing = 0.0, max(length, 0.0), True

    def seek(self, time: float) -> None:
        """Go to a time, or the end that is nearer."""
        self.time = min(max(time, 0.0), self.length)

    def toggle(self) -> None:
        """Play or pause."""
        self.playing = not self.playing

    def advance(self, seconds: float) -> None:
        """Let so many seconds of the watcher pass."""
        if self.playing and self.length > 0:
            self.time = (self.time + seconds * self.speed) % self.length


logger = logging.getLogger(__name__)

Start = Callable[[Progress], "Future[Any]"]
"""Begins some work that tells how far it is."""
_TICK = 1 / 20
"""Seconds between two poses that are sent."""
_LONGEST = 0.25
"""Seconds that pass between two poses at most; whoever waited longer sees a slower motion rather than a jump."""
_COLOURS = {"said": "#5c6470", "done": "#2b7a4b", "failed": "#b3261e"}


class Page:
    """What one browser sees and asks for.

    Whatever a browser does is `post`ed, and done by the page's own thread, between two poses of the figures: nothing
    of a page needs a lock, and no page waits for another. Work is begun with `work`, one at a time.

    Args:
        client: the browser.
        engine: the model behind its queue, shared by all pages.
        workshop: where slow things without the model are done, such as films; shared by all pages.

    Attributes:
        shown: called after other motions are shown.
        refreshed: called after another pose is shown, 20 times a second while a motion plays.
    """

    def __init__(self, client: viser.ClientHandle, engine: Engine, workshop: Executor) -> None:
        self.client, self.engine, self.workshop = client, engine, workshop
        self.gui = client.gui
        self.stage = Stage(client)
        self.playback = Playback()
        self.shown: list[Callable[[], None]] = []
        self.refreshed: list[Callable[[], None]] = []
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work: Future[Any] | None = None
        self._ticked = 0.0
        self._message = self.gui.add_html("")
        self._bar: Any = self.gui.add_progress_bar(0.0, visible=False, animated=True)
        self._cancel = self.gui.add_button("Cancel", visible=False, color="gray", icon=Icon.X)
        self._cancel.on_click(lambda _: self.post(self.cancel))
        self._thread = threading.Thread(target=self._run, name="motiongpt3-page", daemon=True)

    def start(self) -> None:
        """Begin to do what is posted; the panels are there."""
        self._thread.start()

    def close(self) -> None:
        """Drop the work and end the thread; the browser is gone."""
        self.playback.playing = False
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
        self._todo.put(None)

    def post(self, call: Callable[[], None]) -> None:
        """Have the page's thread do something soon; what goes wrong is said on the page."""
        self._todo.put(call)

    @property
    def motion(self) -> Motion:
        """The picked motion; MotionGPT3Error if there is none."""
        if not self.stage.motions:
            raise MotionGPT3Error("there is no motion yet: generate one, or open a file")
        return self.stage.motions[self.stage.picked]

    def show(self, motions: Sequence[Motion]) -> None:
        """Put motions on the stage and play them."""
        self.stage.show(motions)
        self.playback.start(max((len(motion) - 1) / motion.fps for motion in motions))
        for call in self.shown:
            call()
        self.refresh()

    def refresh(self) -> None:
        """Show the pose of the playback's time, playing or not."""
        self.stage.at(self.playback.time)
        for call in self.refreshed:
            call()

    def say(self, text: str, kind: str = "said") -> None:
        """The line above the panels, as `said`, `done` or `failed`."""
        style = f"padding: 0.5em 0.9em 0.6em; font-size: 0.875em; color: {_COLOURS[kind]}"
        line = html.escape(" ".join(text.split())[:400])
        self._message.content = f'<div role="status" style="{style}">{line}</div>'

    def work(self, what: str, start: Start, done: Callable[[Any], None]) -> None:
        """Begin some work and show how far it is.

        Args:
            what: what is being done, such as "Generating".
            start: begins it.
            done: called with its result, in the page's thread.

        Raises:
            MotionGPT3Error: other work goes on, or `start` refuses.
        """
        if self._work is not None:
            raise MotionGPT3Error("something is being done already: wait for it, or cancel it")
        work = start(lambda finished, total: self.post(lambda: self._advance(work, finished, total)))
        self._work = work
        self._bar.value, self._bar.visible, self._cancel.visible = 0.0, True, True
        self.say(f"{what} …")
        work.add_done_callback(lambda _: self.post(lambda: self._finish(work, done)))

    def cancel(self) -> None:
        """Give up the work that goes on."""
        if self._work is not None:
            self._leave()
            self.say("Cancelled.")

    def _leave(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
        self._bar.visible = self._cancel.visible = False

    def _advance(self, work: Future[Any], finished: int, total: int) -> None:
        if work is self._work:
            self._bar.value = 100.0 * finished / max(total, 1)

    def _finish(self, work: Future[Any], done: Callable[[Any], None]) -> None:
        if work is self._work:
            self._leave()
            done(work.result())

    def _run(self) -> None:
        """Do what is posted until None is, and show a pose at every tick while something plays."""
        while True:
            wait = max(self._ticked + _TICK - time.monotonic(), 0.0) if self.playback.playing else None
            try:
                call = self._todo.get(timeout=wait)
            except queue.Empty:
                call = self._tick
            if call is None:
                return
            self._do(call)

    def _tick(self) -> None:
        now = time.monotonic()
        self.playback.advance(min(now - self._ticked, _LONGEST))
        self._ticked = now
        self.refresh()

    def _do(self, call: Callable[[], None]) -> None:
        try:
            call()
        except MotionGPT3Error as error:
            self.say(str(error), "failed")
        except Busy as busy:
            self.say(f"The model has too much to do; try again in {math.ceil(busy.retry_after)} s.", "failed")
        except (CancelledError, Closed):
            self.say("The app is closing.", "failed")
        except Exception:  # a bug must not end the page
            logger.exception("something on a page failed")
            self.playback.playing = False
            self.say("Something went wrong; the log of the app says what.", "failed")


def show_made(page: Page, motions: Sequence[Motion]) -> None:
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
