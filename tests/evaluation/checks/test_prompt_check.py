"""The prompt list is fair and free wording is free; the score rewards right motions only."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.checks.kinematic_rules import RULES
from motiongpt3.evaluation.checks.prompt_check import (
    MARGIN_BAR,
    PromptCase,
    evaluate_prompts,
    load_prompts,
    real_clips,
    validate_rules,
)
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D

KINDS = ("plain", "free")


def normalised(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def still(frames: int = 80) -> Motion:
    joints = np.zeros((22, 3), dtype=np.float32)
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            joints[joint] = joints[parent] + HUMANML3D.rest_offsets[joint]
    return Motion(np.repeat(joints[None], frames, axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_large_balanced_and_known(kind: str) -> None:
    cases = load_prompts(kind)  # type: ignore[arg-type]
    assert len(cases) >= 60
    assert len({normalised(case.text) for case in cases}) == len(cases)
    actions = Counter(case.action for case in cases)
    assert set(actions) == set(RULES)
    assert max(actions.values()) <= 6
    assert sum(case.seconds == 4 for case in cases) >= 60
    for action, count in actions.items():
        if "left" in action and action != "kick left":
            assert abs(actions[action.replace("left", "right")] - count) <= 1, action


def test_free_wording_is_no_training_caption(mocap_dir: Path) -> None:
    captions = set()
    for line in (mocap_dir / "clips.jsonl").read_text().splitlines():
        captions.update(normalised(caption) for caption in json.loads(line)["captions"])
    plain = {normalised(case.text) for case in load_prompts("plain")}
    for case in load_prompts("free"):
        assert normalised(case.text) not in captions | plain, case.text


@pytest.mark.slow
def test_real_clips_score_high_and_shuffled_ones_low(mocap_dir: Path) -> None:
    with np.load(mocap_dir / "joints.npz") as file:
        root, offsets, unit = file["root"], file["offsets"], float(file["metres_per_unit"])
    patterns = real_clips()
    found: dict[str, list[dict[str, int]]] = {action: [] for action in patterns}
    for line in (mocap_dir / "clips.jsonl").read_text().splitlines():
        clip = json.loads(line)
        for action, pattern in patterns.items():
            if pattern.search(clip["short"]):
                found[action].append(clip)
    cases = load_prompts("plain")
    actions = {case.text: case.action for case in cases}

    def draw(texts: list[str], seconds: float, seed: int) -> list[Motion]:
        """A model that knows: a real clip of the action, cut to the seconds asked for."""
        motions = []
        for i, text in enumerate(texts):
            mirrored = actions[text] == "kick right"
            clips = found["kick left" if mirrored else actions[text]]
            clip = clips[(7 * seed + 3 * i) % len(clips)]
            rows = slice(clip["offset"], clip["offset"] + min(clip["frames"], round(20 * seconds)))
            motion = Motion(root[rows, None] + offsets[rows] * np.float32(unit))
            motions.append(motion.mirror() if mirrored else motion)
        return motions

    report = evaluate_prompts(draw, cases, seeds=(0, 1))
    assert report.score >= 0.9, report.table()
    assert report.shuffled <= 0.1
    assert report.margin >= MARGIN_BAR


@pytest.mark.slow
def test_a_model_that_stands_still_scores_nothing() -> None:
    cases = load_prompts("plain")
    calls = []

    def stand(texts: list[str], seconds: float, seed: int) -> list[Motion]:
        calls.append((len(texts), seconds, seed))
        return [still(round(20 * seconds)) for _ in texts]

    report = evaluate_prompts(stand, cases, seeds=(5, 6), batch_size=50)
    assert report.score == report.shuffled == report.margin == 0
    assert max(count for count, _, _ in calls) <= 50
    assert {seed for _, _, seed in calls} == {5, 6}
    content = json.loads(json.dumps(report.as_dict()))
    assert content["seeds"] == [5, 6]
    assert len(content["prompts"]) == len(cases)
    assert "0.0% right" in report.table()
    assert "no known action" in report.table()


def test_each_prompt_gets_its_own_motion_and_the_shuffled_score_averages_all_pairs() -> None:
    cases = [PromptCase("up", "raise right hand"), PromptCase("long", "squat", seconds=2.0), PromptCase("x", "squat")]
    joints = still().joints.copy()
    joints[:, 21, 1] = joints[:, 17, 1] + np.linspace(-0.5, 0.3, 80)
    raising = Motion(joints)

    def generate(texts: list[str], seconds: float, seed: int) -> list[Motion]:
        return [raising if text == "up" else still(round(20 * seconds)) for text in texts]

    report = evaluate_prompts(generate, cases, seeds=(0,))
    assert [result.right for result in report.results] == [(True,), (False,), (False,)]
    assert report.results[0].seen[0][0] == "raise right hand"
    assert report.score == pytest.approx(1 / 3)
    assert report.shuffled == pytest.approx(1 / 9)


def test_bad_input_gets_one_line() -> None:
    with pytest.raises(MotionGPT3Error, match="plain"):
        load_prompts("other")  # type: ignore[arg-type]
    with pytest.raises(MotionGPT3Error, match="no rule"):
        evaluate_prompts(lambda texts, seconds, seed: [], [PromptCase("fly", "fly")])
    with pytest.raises(MotionGPT3Error, match="asked for 1"):
        evaluate_prompts(lambda texts, seconds, seed: [], [PromptCase("jump", "jump")])
    with pytest.raises(MotionGPT3Error, match="at least one"):
        evaluate_prompts(lambda texts, seconds, seed: [], [])
    with pytest.raises(MotionGPT3Error, match="none of the clips"):
        validate_rules([(still(), "juggle")])
