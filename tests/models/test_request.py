"""What is asked of a model: prompts, durations and seeds as requests, and what is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_model import VAE, build

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.request import DrawOptions, check_compose, check_generate

CONFIG = MotionGPT3Config(fps=20, vae=replace(VAE, max_frames=60, min_frames=20), guidance=2.5, steps=7)


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> MotionGPT3:
    return build(tiny_backbone)


def test_requests_are_prompt_by_prompt_and_samples_have_seeds_of_their_own() -> None:
    prompts, draw = ["A person walks ", "jumps for two seconds"], DrawOptions([7, 0], steps=3)
    requests, made = check_generate(CONFIG, prompts, None, 2, draw)
    assert [(one.prompt, one.seed, one.frames) for one in requests] == [
        ("A person walks ", 7, None), ("A person walks ", 8, None), (prompts[1], 0, 40), (prompts[1], 1, 40)
    ]  # fmt: skip
    assert [one.caption for one in requests] == [clean_prompt(text) for text in prompts for _ in range(2)]
    assert (made.guidance, made.steps) == (2.5, 3), "the model's own where nothing is said"


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 1), (0.5, 10), (1.02, 20), (3, 60)])
def test_seconds_are_frames_at_the_models_rate(seconds: float, frames: int) -> None:
    (one,), _ = check_generate(CONFIG, ["waves for two seconds"], seconds, 1, DrawOptions())
    assert one.frames == frames


def test_parts_of_a_composition_may_be_longer_than_the_model_makes() -> None:
    asked = check_compose(CONFIG, ["walks", ("jumps", 0.5), ["sits", 100]], DrawOptions())  # type: ignore[list-item]
    assert asked == [("walks", None), ("jumps", 10), ("sits", 2000)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": ["walk", " "]}, "empty"),
        ({"prompt": "walk " * 20_000}, "100000 characters"),
        ({"prompt": []}, "no prompt"),
        ({"seconds": 0}, "at most 3"),
        ({"seconds": -1}, "at most 3"),
        ({"seconds": 3.01}, "at most 3, not 3.01; longer motions are made of several prompts: compose"),
        ({"seconds": float("nan")}, "at most 3"),
        ({"seconds": float("inf")}, "at most 3"),
        ({"prompt": ["a", "b"], "seconds": [1]}, "list of 1 for 2 prompts"),
        ({"prompt": ["a", "b"], "seconds": [1, 4]}, "at most 3"),
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "list of 3 for 2 prompts"),
        ({"prompt": ["a", "b"], "seed": [1, -2]}, "seed"),
        ({"samples": 0}, "samples"),
        ({"samples": 10_001}, "samples"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"guidance": -0.1}, "guidance"),
        ({"guidance": float("nan")}, "guidance"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
    ],
)
def test_bad_arguments_are_one_line(model: MotionGPT3, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MotionGPT3Error, match=message) as caught:
        model.generate(**({"prompt": "walks"} | arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": 3},
        {"prompt": None},
        {"prompt": ["walks", 3]},
        {"seconds": "4"},
        {"samples": 1.5},
        {"seed": None},
        {"seed": 0.5},
        {"steps": "many"},
        {"guidance": "x"},
    ],
)
def test_arguments_of_the_wrong_kind_are_one_line(model: MotionGPT3, arguments: dict[str, Any]) -> None:
    with pytest.raises(MotionGPT3Error, match="must be") as caught:
        model.generate(**{"prompt": "walks", **arguments})
    assert "\n" not in str(caught.value)
