"""The web app in a real browser."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import numpy as np
import pytest
import viser
from browser import HEIGHT, WIDTH, chromium
from fake_model import TextOnly
from moving_model import MovingModel, swinging
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from motiongpt3 import Motion
from motiongpt3.service.engine import Engine

pytestmark = pytest.mark.browser

WAIT = 200_000
"""Milliseconds that a page may take."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def model() -> MovingModel:
    return MovingModel()


@pytest.fixture
def app(model: MovingModel) -> Iterator[Any]:
    with serving(model) as found:
        yield found
        model.free.set()


class serving:
    """The app on a free port."""

    def __init__(self, model: Any) -> None:
        from motiongpt3.app.web import WebApp

        self._model = model
        self._engine = Engine(model)
        self._app = WebApp(self._engine, port=0)

    def __enter__(self) -> Any:
        return self._app

    def __exit__(self, *_: object) -> None:
        getattr(self._model, "free", None) and self._model.free.set()
        self._app.stop()
        self._engine.close(finish=False)


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page for somebody of their own; low ones are drawn faster."""
    people = []

    def opened(url: str, height: int = 260) -> Any:
        person = browser.new_context(viewport={"width": WIDTH, "height": height}, device_scale_factor=0.5)
        people.append(person)
        page = person.new_page()
        page.set_default_timeout(WAIT)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlsplit(request.url).netloc or request.url.split(":")[0]))
        page.on("websocket", lambda socket: page.hosts.add(urlsplit(socket.url).netloc))
        page.goto(url)
        button(page, "Generate").wait_for()
        return page

    yield opened
    for number, person in enumerate(people):
        for page in person.pages:
            page.screenshot(path=tmp_path / f"page{number}.png")  # pytest keeps those of the last three runs
        person.close()


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def says(page: Any, text: str) -> None:
    """Wait until the line above the panels has this text in it."""
    page.get_by_role("status").filter(has_text=text).wait_for()


def box(page: Any, label: str) -> Any:
    """The visible inputs with this label: boxes for text, or for the number beside a slider."""
    row = f"xpath=//label[normalize-space()='{label}']/ancestor::div[2]"
    return page.locator(f"{row}//input[not(@type='hidden')]").locator("visible=true")


def generate(page: Any, prompt: str) -> None:
    page.get_by_role("textbox").first.fill(prompt)
    button(page, "Generate").click()


def scene(page: Any) -> np.ndarray:
    """The pixels between the panels."""
    picture = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH - 430, "height": 400})))
    return np.asarray(picture.convert("RGB"), dtype=np.int16)


def changes(page: Any, before: np.ndarray) -> bool:
    """Whether the pixels are other ones soon, by more than the noise of drawing."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if (np.abs(scene(page) - before).max(-1) > 40).sum() > 50:
            return True
    return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_prompt_becomes_a_figure_a_file_and_words(app: Any, visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(app.url, HEIGHT)
    empty = scene(page)
    generate(page, "somebody swings both arms")
    says(page, "somebody swings both arms: 4.0 s")
    assert changes(page, scene(page)), "the figure does not move"
    button(page, "Pause").click()
    button(page, "Play").wait_for()
    assert (np.abs(scene(page) - empty).max(-1) > 40).mean() > 0.02, "no figure"

    dressed = scene(page)
    tab(page, "View")
    button(page, "Skeleton").click()
    assert changes(page, dressed), "no skeleton"

    tab(page, "Export")
    with page.expect_download() as download:
        button(page, "BVH").click()
    assert download.value.suggested_filename == "somebody-swings-both-arms.bvh"
    file = tmp_path / "a.bvh"
    download.value.save_as(file)
    assert np.abs(Motion.load(file).joints - swinging(80)).max() < 0.02

    page.locator("input[type=file]").set_input_files(file)
    says(page, "A motion: 4.0 s")
    tab(page, "Describe")
    button(page, "Describe the motion").click()
    page.get_by_text("80 frames, 0").wait_for()
    page.locator("input[type=file]").set_input_files(Motion(swinging(90), caption="a file").save(tmp_path / "b.glb"))
    says(page, "a file: 4.5 s")
    button(page, "Describe the motion").click()
    page.get_by_text("90 frames, 0").wait_for()
    assert page.hosts - {"blob"} == {urlsplit(app.url).netloc}, "another host was asked"


def test_variants_stand_side_by_side_and_one_is_picked(app: Any, visit: Callable[..., Any]) -> None:
    page = visit(app.url, HEIGHT)

    def show(count: int) -> np.ndarray:
        generate(page, f"{count} people")
        says(page, f"{count} people: 4.0 s")
        button(page, "Pause").click()
        button(page, "Play").wait_for()
        return scene(page)

    one = show(1)
    assert not button(page, "3").is_visible()
    for _ in range(4):
        page.get_by_role("slider").nth(1).press("ArrowRight")
    four = show(4)
    assert (np.abs(four - one).max(-1) > 40).mean() > 0.01, "there is still one figure"
    assert not button(page, "5").is_visible(), "there are four at most"
    button(page, "4").click()
    assert changes(page, four), "another one is not shown as picked"
    picked = scene(page)
    button(page, "Keep only this one").click()
    button(page, "4").wait_for(state="hidden")
    assert changes(page, picked), "the others are still there"


def test_what_is_watched_is_chosen(app: Any, visit: Callable[..., Any]) -> None:
    page = visit(app.url, HEIGHT)
    box(page, "Seconds").fill("10")
    generate(page, "a long way")
    says(page, "a long way: 10.0 s")
    time_shown = box(page, "Time (s)")

    def pace() -> float:
        """Seconds of the motion per second."""
        start, begun = float(time_shown.input_value()), time.monotonic()
        page.wait_for_timeout(1500)
        return (float(time_shown.input_value()) - start) / (time.monotonic() - begun)

    button(page, "¼").click()
    button(page, "Pause").click()
    button(page, "Play").wait_for()
    time_shown.fill("0")
    button(page, "Play").click()
    slow = pace()
    button(page, "2").click()
    assert pace() > 2 * slow > 0, "the speed does not count"

    button(page, "Pause").click()
    button(page, "Play").wait_for()
    time_shown.fill("1")
    page.wait_for_timeout(500)
    shown = scene(page)
    time_shown.fill("6.5")
    assert changes(page, shown), "another time shows the same pose"
    tab(page, "View")
    for name in ("Trails", "Follow"):
        page.wait_for_timeout(500)
        shown = scene(page)
        page.get_by_label(name).click()
        assert changes(page, shown), f"{name} changes nothing"


def test_all_tasks_are_drawn_as_it_is_set(app: Any, model: MovingModel, visit: Callable[..., Any]) -> None:
    page = visit(app.url)
    for label, value in (("Seed", "7"), ("Guidance", "3.5"), ("Steps", "5")):
        assert page.get_by_label(label, exact=True).count() == 1, "there is one group of them"
        page.get_by_label(label, exact=True).fill(value)
        page.wait_for_timeout(500)  # the page tells the app of a change in its own time
    page.get_by_label("Any length").click()
    page.wait_for_timeout(500)
    generate(page, "as long as it takes")
    says(page, "as long as it takes: 1.0 s")
    tab(page, "Continue")
    button(page, "Continue").click()
    says(page, "A motion: 4.0 s")
    page.get_by_role("button", name="Fill the gap").click()
    until(lambda: len(model.drawn) == 3)
    tab(page, "Compose")
    button(page, "Compose").click()
    says(page, "A motion: 9.0 s")
    assert model.drawn == [(task, 3.5, 5) for task in ("generate", "predict", "inbetween", "compose")]
    assert model.seeds == [7] * 4


def test_prompts_are_put_in_another_order(app: Any, model: MovingModel, visit: Callable[..., Any]) -> None:
    page = visit(app.url)
    tab(page, "Compose")
    button(page, "Add a prompt").click()
    box(page, "Prompt").nth(3).fill("a person sits down")
    button(page, "Up").nth(3).click()
    button(page, "Down").first.click()
    page.wait_for_timeout(500)
    button(page, "Compose").click()
    says(page, "A motion: 12.0 s")
    assert [words for (words,) in model.calls] == [
        "a person jumps", "a person walks forward", "a person sits down", "a person bows"
    ]  # fmt: skip


def test_a_gap_of_an_uploaded_motion_is_chosen(
    app: Any, model: MovingModel, visit: Callable[..., Any], tmp_path: Path
) -> None:
    sides: list[tuple[int, float, int]] = []
    drawn = model.inbetween

    def inbetween(start: Motion, end: Motion, seconds: float, *arguments: Any, **options: Any) -> Motion:
        sides.append((len(start), seconds, len(end)))
        return drawn(start, end, seconds, *arguments, **options)

    model.inbetween = inbetween  # type: ignore[method-assign]
    page = visit(app.url, HEIGHT)
    file = Motion(swinging(120), caption="mine").save(tmp_path / "a.npz")
    page.locator("input[type=file]").set_input_files(file)
    says(page, "mine: 6.0 s")
    tab(page, "Continue")
    handle = page.locator(".multi-slider-thumb").first
    place = handle.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] - 40, place["y"])
    page.mouse.up()
    page.get_by_role("button", name="Fill the gap from 2.10 to 3.90 s").wait_for(state="hidden")
    page.get_by_role("button", name="to 3.90 s").click()
    says(page, "A motion: 6.0 s")
    ((before, seconds, after),) = sides
    assert 10 < before < 40
    assert after == 120 - 78
    assert before + round(20 * seconds) == 78
    button(page, "Continue").click()
    says(page, "A motion: 9.0 s")


def test_exports_are_finished_and_tell_what_changed(app: Any, visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(app.url)
    generate(page, "a way")
    says(page, "a way: 4.0 s")
    tab(page, "Export")

    def export() -> Motion:
        with page.expect_download() as download:
            button(page, "npz").click()
        download.value.save_as(tmp_path / "a.npz")
        return Motion.load(tmp_path / "a.npz")

    assert export().fps == 20
    says(page, "a-way.npz: 4.0 s at 20 frames per second")
    assert not page.get_by_text("travel").is_visible()
    page.get_by_label("Frame rate").fill("29.97")
    page.get_by_label("Smooth (s)").fill("0.3")
    for name in ("Loop", "Fix feet", "In place"):
        page.get_by_label(name).click()
    made = export()
    assert made.fps == pytest.approx(29.97)
    assert np.abs(made.joints[0] - made.joints[-1]).max() < 0.01
    for measure in ("jitter", "travel", "contact slide", "loop speed"):
        page.get_by_role("cell", name=measure, exact=True).wait_for()
    tab(page, "Generate")
    box(page, "Seconds").fill("0.5")
    generate(page, "a short way")
    says(page, "a short way: 0.5 s")
    tab(page, "Export")
    button(page, "npz").click()
    says(page, "a loop is cut out of at least 1 s")
    assert not page.get_by_text("travel").is_visible(), "these are the measures of another motion"


def test_work_is_cancelled_and_failures_are_told(
    app: Any, model: MovingModel, visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(app.url)
    model.free.clear()
    generate(page, "a long story")
    says(page, "Generating …")
    button(page, "Generate").click()
    says(page, "something is being done already")
    button(page, "Cancel").click()
    says(page, "Cancelled.")
    model.free.set()
    for prompt, answer in (
        ("refuse", "the model does not like this"),
        ("explode", "Something went wrong; the log of the app says what."),
        (" ", "the prompt is empty"),
        ("a" * 301, "at most 300"),
    ):
        generate(page, prompt)
        says(page, answer)
    damaged = tmp_path / "x.bvh"
    damaged.write_text("<b>no motion</b>")
    page.locator("input[type=file]").set_input_files(damaged)
    says(page, "motion.bvh")
    large = {"name": "../../etc/passwd.npz", "mimeType": "", "buffer": bytes(21_000_000)}
    page.locator("input[type=file]").set_input_files(large)
    says(page, "at most 20 MB are read")
    generate(page, "all is well")
    says(page, "all is well: 4.0 s")


class Turnstile(threading.Semaphore):
    """Lets the model do one piece of work at a time, until it is set."""

    def wait(self, timeout: float) -> bool:
        return self.acquire(timeout=timeout)

    def set(self) -> None:
        self.release(1000)


def test_the_bar_tells_how_far_long_work_is(app: Any, model: MovingModel, visit: Callable[..., Any]) -> None:
    model.free = turnstile = Turnstile(0)  # type: ignore[assignment]
    page = visit(app.url)
    bar = page.get_by_role("progressbar")
    assert not bar.is_visible()
    tab(page, "Compose")
    button(page, "Compose").click()
    for part in range(3):
        until(lambda done=part: abs(float(bar.get_attribute("aria-valuenow")) - 100 * done / 3) < 1)
        turnstile.release()
    says(page, "A motion: 9.0 s")
    bar.wait_for(state="hidden")


def test_browsers_do_not_disturb_one_another(app: Any, visit: Callable[..., Any]) -> None:
    one, other = visit(app.url), visit(app.url)
    generate(one, "mine")
    says(one, "mine: 4.0 s")
    says(other, "Write what somebody does")
    tab(other, "Continue")
    button(other, "Continue").click()
    says(other, "there is no motion yet")
    tab(one, "Continue")
    one.get_by_role("button", name="Fill the gap").click()
    says(one, "A motion: 4.0 s")
    button(one, "Continue").click()
    says(one, "A motion: 7.0 s")
    tab(one, "Compose")
    button(one, "Remove").first.click()
    button(one, "Compose").click()
    says(one, "A motion: 6.0 s")
    assert app.browsers == 2
    other.close()
    until(lambda: app.browsers == 1)


def test_tasks_that_are_missing_are_not_shown(visit: Callable[..., Any]) -> None:
    with serving(TextOnly()) as app:
        page = visit(app.url)
        names = [found.inner_text() for found in page.get_by_role("tab").all()]
    assert set(names) == {"Generate", "Export", "Playback", "View"}


def test_other_names_and_foreign_pages_get_nothing(app: Any) -> None:
    """Neither the page nor its websocket (DNS rebinding)."""
    place = urlsplit(app.url).netloc
    right, spoken = {"Host": place, "Origin": app.url}, Subprotocol(f"viser-v{viser.__version__}")
    for wrong in ({**right, "Host": "rebound.example"}, {**right, "Origin": "https://evil.example"}):
        assert httpx.get(app.url, headers=wrong).status_code == 403
    assert httpx.get(app.url, headers=right).status_code == 200
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://{place}", origin=Origin("https://evil.example"), subprotocols=[spoken])
    with connect(f"ws://{place}", origin=Origin(app.url), subprotocols=[spoken]) as page:
        assert page.recv(timeout=300)
