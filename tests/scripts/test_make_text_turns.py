"""The backbone's answers to plain questions, with a tiny backbone."""

from __future__ import annotations

from pathlib import Path

import make_text_turns
import pytest
import torch
import yaml
from make_text_turns import greedy_answers, whole_sentences, write_text_turns

from motiongpt3.models.backbone import TextBackbone, load_backbone

QUESTIONS = ["a person walks", "jumps", "a person turns left and then waves"]


@pytest.fixture
def backbone(tiny_backbone: Path) -> TextBackbone:
    return load_backbone(str(tiny_backbone), dtype=torch.float32).freeze()


def test_answers_in_a_batch_are_those_one_by_one(backbone: TextBackbone) -> None:
    together = list(greedy_answers(backbone, QUESTIONS, "plain", max_tokens=12))
    alone = [next(iter(greedy_answers(backbone, [text], "plain", max_tokens=12))) for text in QUESTIONS]
    assert together == alone
    assert len({text for text, _ in together}) > 1


def test_an_answer_that_does_not_end_is_marked(backbone: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    end = backbone.eos_id

    def ends_at_once(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:-1], backbone.vocabulary + 2)
        logits[..., end] = 1
        return logits

    monkeypatch.setattr(backbone, "logits", ends_at_once)
    assert list(greedy_answers(backbone, QUESTIONS, "plain")) == [("", True)] * 3


def test_whole_sentences_are_kept() -> None:
    assert whole_sentences('Bread is made of flour. It is "good." Then on') == 'Bread is made of flour. It is "good."'
    assert whole_sentences("Three steps:\n\n1. Mix it.\n2. Ba") == "Three steps:\n\n1. Mix it."
    assert whole_sentences("It costs 3.5 and no") == ""


def test_what_is_written_is_read_back(backbone: TextBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [("Yes.", True), ("no end", False), ("One. And tw", False)]
    monkeypatch.setattr(make_text_turns, "greedy_answers", lambda *_: iter(answers))
    assert write_text_turns(tmp_path / "turns.yaml", backbone, QUESTIONS) == 2
    assert yaml.safe_load((tmp_path / "turns.yaml").read_text()) == {QUESTIONS[0]: "Yes.", QUESTIONS[2]: "One."}
