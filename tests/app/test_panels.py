"""What a page asks of the model, by its buttons and without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from desk import open_desk
from fake_model import FakeModel, TextOnly, standing

from motiongpt3 import MotionGPT3Error
from motiongpt3.app.panels import add_compose, add_describe, add_drawing, add_generate, add_inbetween, add_panels
from motiongpt3.models.request import DrawOptions
from motiongpt3.service.engine import Engine


@pytest.fixture
def page(engine: Engine) -> Iterator[Any]:
    with open_desk(engine) as page:
        yield page


def test_drawing_is_the_models_own_until_it_is_set(page: Any) -> None:
    drawing = add_drawing(page)
    assert drawing() == DrawOptions(0, 2.0, 10)
    page.gui["Seed"].value, page.gui["Guidance"].value, page.gui["Steps"].value = 7, 3.5, 4
    assert drawing() == DrawOptions(7, 3.5, 4)


def test_variants_have_a_length_or_any(page: Any, fake: FakeModel) -> None:
    add_generate(page, add_drawing(page))
    page.gui["Seed"].value = 5
    page.gui["Prompt"].value, page.gui["Seconds"].value, page.gui["Variants"].value = "jumps", 2.5, 3
    page.gui.click("Generate")
    assert [(motion.caption, len(motion)) for motion in page.motions] == [("jumps", 50)] * 3
    assert fake.seeds == [5, 6, 7]
    assert "jumps" in page.said
    page.gui["Any length"].value = True
    assert page.gui["Seconds"].disabled
    page.gui.click("Generate")
    assert [len(motion) for motion in page.motions] == [20] * 3, "the model decides: a second"


def test_prompts_of_a_composition_go_up_down_and_away(page: Any, fake: FakeModel) -> None:
    add_compose(page, add_drawing(page))
    rows, actions = page.gui.found["Prompt"], page.gui.found[""]
    for row, words in zip(rows, ("one", "two", "three"), strict=False):
        row.value = words
    page.gui.found["Seconds"][1].value = 0.5
    page.gui.click("Compose")
    assert fake.calls == [["one"], ["two"], ["three"]]
    assert len(page.motion) == 20 * 6.5
    actions[1].value = "Up"
    assert [row.value for row in rows[:3]] == ["two", "one", "three"]
    actions[0].value = "Up"
    actions[2].value = "Down"
    assert [row.value for row in rows[:3]] == ["two", "one", "three"], "nothing lies beyond the ends"
    actions[1].value = "Remove"
    assert [row.value for row in rows[:2]] == ["two", "three"]
    fake.calls.clear()
    page.gui.click("Compose")
    assert fake.calls == [["two"], ["three"]]
    page.gui.click("Add a prompt")
    with pytest.raises(MotionGPT3Error, match="a prompt is empty"):
        page.gui.click("Compose")
    for _ in range(5):
        page.gui.click("Add a prompt")
    assert page.gui["Add a prompt"].disabled
    assert [page.gui[str(number + 1)].visible for number in range(6)] == [True] * 6


def test_a_gap_is_made_anew_within_the_motion(page: Any, fake: FakeModel) -> None:
    add_inbetween(page, add_drawing(page))
    page.show([standing(80, 1)])
    gap, button = page.gui["Gap (s)"], page.gui["Fill the gap"]
    assert gap.value == (1.4, 2.6), "the middle of it"
    assert button.label == "Fill the gap from 1.40 to 2.60 s"
    page.gui["Prompt"].value = " "
    page.gui.click("Fill the gap")
    assert len(page.motion) == 80
    assert fake.calls == [["None"]]
    gap.value = (0.0, 2.0)
    with pytest.raises(MotionGPT3Error, match="the gap must lie within the motion"):
        page.gui.click("Fill the gap")


def test_words_are_shown_as_words_and_forgotten_with_the_motion(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModel, "caption", lambda *_, **__: ["<b> & he walks"])
    add_describe(page)
    page.show([standing(30, 1)])
    page.gui.click("Describe the motion")
    answer = page.gui[""]
    assert "&lt;b&gt; &amp; he walks" in answer.content
    page.show([standing(20, 1)])
    assert answer.content == ""


def test_what_the_model_cannot_do_has_no_tab(page: Any) -> None:
    add_panels(page)
    assert {"Generate", "Compose", "Continue", "Describe", "Export"} <= page.gui.found.keys()
    with open_desk(Engine(TextOnly())) as other:
        add_panels(other)
    assert {"Compose", "Continue", "Describe"}.isdisjoint(other.gui.found)
    assert {"Generate", "Export"} <= other.gui.found.keys()
