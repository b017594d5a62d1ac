"""BERTScore, worked by hand on vectors that are known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import BertModel

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.bert import WordEncoder, Words, bert_score

AXES = {"walk": (1.0, 0.0, 0.0), "run": (0.6, 0.8, 0.0), "jump": (0.0, 0.0, 1.0)}


class Known:
    """An encoder whose words have the same vectors everywhere."""

    def __call__(self, texts: list[str]) -> dict[str, Words]:
        ids = list(AXES)
        return {
            text: Words(
                tuple(ids.index(word) for word in text.split()),
                torch.tensor([AXES[word] for word in text.split()]).reshape(-1, 3),
            )
            for text in texts
        }


def test_by_hand() -> None:
    """Captions "run" and "jump" of references "walk", "walk" and "jump jump".

    idf: walk is in two of three references, log(4/3); jump in one, log(4/2); run in none, log 4. "run" against "walk":
    one word each, P = R = 0.6. "jump" against "jump jump": 1. Unrelated: "walk" and "jump jump", always 0.
    """
    score, baseline = bert_score(Known(), ["run", "jump"], [["walk", "walk"], ["jump jump"]])  # type: ignore[arg-type]
    assert baseline == 0
    assert score == pytest.approx((0.6 + 1) / 2)
    # "run jump" against "walk": P = (0.6 log 4 + 0 log 2) / (log 4 + log 2) = 0.4, R = 0.6
    score, _ = bert_score(Known(), ["run jump", "jump"], [["walk", "walk"], ["jump jump"]])  # type: ignore[arg-type]
    assert score == pytest.approx((2 * 0.4 * 0.6 / (0.4 + 0.6) + 1) / 2)


def test_rescaling_and_what_is_undefined() -> None:
    """References "walk" and "run": unrelated pairs have 0.6 always, so the rescaled 0.6 is 0 and 1 is 1."""
    assert bert_score(Known(), ["walk", "run"], [["walk"], ["run"]]) == pytest.approx((1, 0.6))  # type: ignore[arg-type]
    assert bert_score(Known(), ["run", "walk"], [["walk"], ["run"]])[0] == pytest.approx(0)  # type: ignore[arg-type]
    assert bert_score(Known(), ["", "run"], [["walk"], ["run"]])[0] == pytest.approx(-0.25)  # type: ignore[arg-type]
    assert math.isnan(bert_score(Known(), ["walk"], [["walk"]])[0])  # type: ignore[arg-type]


def test_words_of_a_model(tiny_sentences: Path) -> None:
    encode = WordEncoder(str(tiny_sentences))
    assert encode.layer == 1
    words = encode(["a person walks", "walks", "a person walks then jumps"])
    assert len(words["a person walks"].ids) == 3
    bert = BertModel.from_pretrained(tiny_sentences).eval()
    with torch.no_grad():
        states = bert(torch.tensor([encode.tokenizer.encode("a person walks").ids]), output_hidden_states=True)
    wanted = torch.nn.functional.normalize(states.hidden_states[1][0], dim=-1)
    torch.testing.assert_close(words["a person walks"].vectors, wanted, atol=1e-5, rtol=1e-5)  # padding is not seen


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="or minilm; nowhere has none"):
        WordEncoder("nowhere")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(MotionGPT3Error, match=r"tokenizer\.json"):
        WordEncoder(str(tmp_path))
