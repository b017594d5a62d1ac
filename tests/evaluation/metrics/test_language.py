"""BLEU, ROUGE-L, CIDEr-D and BERTScore: worked by hand from the formulas, and beside other libraries."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from torchmetrics.functional.text import bert_score as bert_score_of_torchmetrics
from torchmetrics.functional.text import bleu_score
from transformers import BertModel

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics import CaptionScores, lemma_tokens, lower_tokens, raw_tokens
from motiongpt3.evaluation.metrics.language import TokenVectors, WordEncoder, bert_score, bleu, cider_d, rouge_l
from motiongpt3.evaluation.tmr import minilm_folder

words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def test_bleu_clips_counts() -> None:
    """Papineni's example 2: "the" is in one reference twice at most, so 2 of 7 unigrams count."""
    references = [["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]
    assert bleu([["the", "the", "the", "the", "the", "the", "the"]], [references], 1) == pytest.approx(2 / 7)


def test_bleu_by_hand() -> None:
    """a b c d e against a b c d x y: p = 4/5, 3/4, 2/3, 1/2; c = 5, r = 6."""
    score = bleu([["a", "b", "c", "d", "e"]], [[["a", "b", "c", "d", "x", "y"]]])
    assert score == pytest.approx(math.exp(1 - 6 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_bleu_is_of_the_corpus() -> None:
    """1 of 2 and 3 of 4 words: 4 of 6, not the mean of the two shares. No penalty: lengths agree."""
    captions = [["a", "x"], ["a", "b", "c", "x"]]
    assert bleu(captions, [[["a", "b"]], [["a", "b", "c", "d"]]], 1) == pytest.approx(4 / 6)
    assert bleu(captions, [[["a", "b"]], [["a", "b", "c", "d"]]], 4) == 0


def test_bleu_reference_length() -> None:
    """A caption of 4 words between references of 3, 5 and 9: 3 and 5 are as close, the shorter counts."""
    caption = [["a", "b", "c", "d"]]
    references = [["a", "b", "c", "d", "e", "f", "g", "h", "i"], ["a", "b", "c", "d", "e"], ["a", "b", "c"]]
    assert bleu(caption, [references], 1) == 1
    assert bleu(caption, [references[:2]], 1) == pytest.approx(math.exp(1 - 5 / 4))
    shorter = [["a", "b", "c", "d"], ["a", "b"], ["a", "b", "c", "d", "e"]]
    assert bleu([["a", "b", "c"]], [shorter[:1]], 1, "shortest") == pytest.approx(math.exp(1 - 4 / 3))
    assert bleu([["a", "b", "c"]], [[*shorter[:1], *shorter[2:]]], 1) == pytest.approx(math.exp(1 - 4 / 3))
    assert bleu([["a", "b", "c"]], [shorter], 1, "shortest") == 1


@pytest.mark.slow
@given(corpus=st.lists(st.tuples(words, words), min_size=1, max_size=4), n=st.integers(1, 4))
def test_bleu_agrees_with_torchmetrics(corpus: list[tuple[list[str], list[str]]], n: int) -> None:
    texts = [" ".join(caption) for caption, _ in corpus]
    theirs = bleu_score(texts, [[" ".join(reference)] for _, reference in corpus], n_gram=n)
    assert bleu([c for c, _ in corpus], [[r] for _, r in corpus], n) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.slow
@given(
    corpus=st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=4),
    n=st.integers(1, 4),
)
def test_bleu_agrees_with_sacrebleu(corpus: list[tuple[list[str], list[list[str]]]], n: int) -> None:
    """With several references too, of which the one of closest length counts."""
    theirs = BLEU(smooth_method="none", tokenize="none", max_ngram_order=n, force=True)
    streams = [[" ".join(others[k]) if k < len(others) else None for _, others in corpus] for k in range(3)]
    score = theirs.corpus_score([" ".join(caption) for caption, _ in corpus], streams).score / 100
    assert bleu([caption for caption, _ in corpus], [others for _, others in corpus], n) == pytest.approx(score)


def test_rouge_by_hand() -> None:
    """Lin's example: "police killed the gunman" against two of the same unigrams in another order."""
    reference = ["police", "killed", "the", "gunman"]
    assert rouge_l(["police", "kill", "the", "gunman"], reference) == pytest.approx(3 / 4)
    assert rouge_l(["the", "gunman", "kill", "police"], reference) == pytest.approx(2 / 4)
    # Lengths 2 and 4: P = 1, R = 1/2.
    assert rouge_l(["police", "gunman"], reference) == pytest.approx(2 / 3)
    assert rouge_l(["police", "gunman"], reference, 1.2) == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))
    assert rouge_l([], reference) == 0
    assert rouge_l(["x"], reference) == 0


@given(one=words, other=words)
def test_rouge_is_symmetric_and_bounded(one: list[str], other: list[str]) -> None:
    assert rouge_l(one, other) == pytest.approx(rouge_l(other, one))
    assert 0 <= rouge_l(one, other) <= 1
    assert rouge_l(one, one) == 1


def test_cider_by_hand() -> None:
    """Three captions; log 3 for what one has in its references, log 1.5 for what two have, 0 for what all have."""
    references = [[["a", "b"]], [["a", "c"]], [["a", "b", "d", "e"]]]
    captions = [["a", "b"], ["a", "a", "c", "c"], ["a", "b"]]
    scores = cider_d(captions, references)
    # 0: unigrams (b) and bigrams (a b) are the reference's: cosine 1 for n = 1, 2; none for n = 3, 4.
    assert scores[0] == pytest.approx(10 * 2 / 4)
    # 1: unigrams: a weighs 0, so g = 2 log 3 for c, g' = log 3: min gives log 3 * log 3 / (2 log 3 * log 3) = 1/2.
    # Bigrams: a a, a c, c c weigh log 3 each (an unseen one counts as seen once), the reference has a c: 1 / sqrt 3.
    # Lengths 4 and 2.
    assert scores[1] == pytest.approx(10 / 4 * math.exp(-4 / 72) * (1 / 2 + 1 / math.sqrt(3)))
    # 2: unigrams: b of b, d, e. Bigrams: a b of a b, b d, d e. Lengths 2 and 4.
    rare, common = math.log(3), math.log(1.5)
    cosine = common**2 / (common * math.sqrt(common**2 + 2 * rare**2))
    assert scores[2] == pytest.approx(10 / 4 * math.exp(-4 / 72) * 2 * cosine)


def test_cider_takes_the_mean_of_references() -> None:
    references = [[["b", "c", "d", "e"], ["x", "y", "z", "w"]], [["a"]]]
    assert cider_d([["b", "c", "d", "e"], ["a"]], references)[0] == pytest.approx(5)


def test_tokens() -> None:
    assert raw_tokens("A man's  wave.\n") == ["A", "man's", "wave."]
    assert lower_tokens("A man's  WAVE.\n") == ["a", "man", "s", "wave"]


@pytest.mark.slow
def test_lemmas() -> None:
    assert lemma_tokens("A man's WAVING his left hands, side-ways.") == [
        "a", "man", "s", "wave", "his", "left", "hand", "sideways",
    ]  # fmt: skip
    assert lemma_tokens("walks walked walking 3 times") == ["walk", "walk", "walk", "time"]


def test_the_tokens_decide() -> None:
    captions, references = ["A man walks."], [["a man walks", "someone walks"]]
    scores = []
    for tokenize in (raw_tokens, lower_tokens):
        metric = CaptionScores(tokenize)
        metric.update(captions, references, [0])
        with pytest.warns(UserWarning, match="CIDEr is undefined for one caption"):
            scores.append(metric.compute())
    assert float(scores[0]["bleu_1"]) == pytest.approx(1 / 3)
    assert float(scores[1]["bleu_1"]) == 1
    assert float(scores[1]["rouge_l"]) == 1
    assert scores[1]["cider"].isnan()


def test_an_empty_caption_counts() -> None:
    metric = CaptionScores(lower_tokens)
    metric.update(["", "ein Männchen 走"], [["a man"], ["ein Männchen 走"]], [0, 1])
    result = metric.compute()
    assert float(result["rouge_l"]) == 0.5
    assert float(result["cider"]) > 0
    assert result["samples"] == 2


def test_bad_input() -> None:
    metric = CaptionScores()
    for captions, references in ((["a"], [[]]), (["a"], ["b"]), (["a"], [["b"], ["c"]]), ([None], [["b"]])):
        with pytest.raises(MotionGPT3Error):
            metric.update(captions, references, [0])  # type: ignore[arg-type]
    metric.update(["a"], [["b"]], [0])
    metric.update(["c"], [["b"]], [0])
    with pytest.raises(MotionGPT3Error, match="different captions"):
        metric.compute()


AXES = {"walk": (1.0, 0.0, 0.0), "run": (0.6, 0.8, 0.0), "jump": (0.0, 0.0, 1.0)}


class Known:
    """An encoder whose words have the same vectors everywhere."""

    def __call__(self, texts: list[str]) -> dict[str, TokenVectors]:
        ids = list(AXES)
        return {
            text: TokenVectors(
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


@pytest.mark.slow
def test_bert_score_agrees_with_torchmetrics() -> None:
    """The score before it is rescaled, with the same folder, layer, tokens and weights of words.

    Texts come from short to long on both sides: torchmetrics 1.9 sorts by length and undoes it by sorting again.
    """
    captions = ["somebody jumps", "a person walks forward", "a person waves with the left hand"]
    references = ["a person jumps", "somebody walks and then stops", "somebody waves the right hand and turns"]
    encode = WordEncoder("minilm")
    score, baseline = bert_score(encode, captions, [[text] for text in references])
    theirs = bert_score_of_torchmetrics(
        captions,
        references,
        model_name_or_path=str(minilm_folder()),
        num_layers=encode.layer,
        idf=True,
        max_length=16,
    )["f1"]
    assert score * (1 - baseline) + baseline == pytest.approx(float(theirs.mean()), abs=1e-6)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="or minilm; nowhere has none"):
        WordEncoder("nowhere")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(MotionGPT3Error, match=r"tokenizer\.json"):
        WordEncoder(str(tmp_path))
