"""A page without a browser: what is posted is done at once, and work is over when it is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import viser

from motiongpt3 import Motion
from motiongpt3.service.engine import Engine


class Gui:
    """A page's elements as viser makes them; `Gui.found[label]` are those that were added under a label."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self._gui = gui
        self.found: dict[str, list[Any]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def add(*arguments: Any, **options: Any) -> Any:
            made = getattr(self._gui, name)(*arguments, **options)
            if name == "add_tab_group":
                return Tabs(made, self.found)
            self.found.setdefault(str(arguments[0]) if arguments else "", []).append(made)
            return made

        return add

    def __getitem__(self, label: str) -> Any:
        """The one element with this label."""
        (one,) = self.found[label]
        return one

    def click(self, label: str) -> None:
        """Press the one button with this label."""
        self[label].value = True


class Tabs:
    """A group of tabs whose labels are remembered."""

    def __init__(self, group: Any, found: dict[str, list[Any]]) -> None:
        self._group, self._found = group, found

    def add_tab(self, label: str) -> Any:
        tab = self._group.add_tab(label)
        self._found.setdefault(label, []).append(tab)
        return tab


class Desk:
    """What the panels need of a `Page`.

    Attributes:
        work_done: names of the work that was done.
        motions: those that were shown last; the first one is picked.
    """

    def __init__(self, gui: viser.GuiApi, engine: Engine) -> None:
        self.gui, self.engine = Gui(gui), engine
        self.shown: list[Callable[[], None]] = []
        self.refreshed: list[Callable[[], None]] = []
        self.work_done: list[str] = []
        self.motions: list[Motion] = []
        self.said = ""

    @property
    def motion(self) -> Motion:
        return self.motions[0]

    def post(self, call: Callable[[], None]) -> None:
        call()

    def show(self, motions: Sequence[Motion]) -> None:
        self.motions = list(motions)
        for call in self.shown:
            call()

    def say(self, text: str, kind: str = "said") -> None:
        self.said = text

    def work(self, what: str, start: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        self.work_done.append(what)
        done(start(lambda *_: None).result(20))


@contextmanager
def open_desk(engine: Engine) -> Iterator[Any]:
    """A desk on a server that nobody visits."""
    server = viser.ViserServer("127.0.0.1", 0, verbose=False)
    try:
        yield Desk(server.gui, engine)
    finally:
        server.stop()
