"""Writing against transformers' `generate` on the same random Llama, and by its own rules."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, half_precision
from motiongpt3.models.motiongpt3 import MotionGPT3

SPECIAL = (30, 31)
"""Our two tokens, which transformers' model does not know."""
PROMPTS = [[3, 4, 6], [5], [4, 7, 13, 14, 9], [6, 6]]


@pytest.fixture(scope="module")
def llama(tiny_backbone: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(tiny_backbone)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # so that the next word hangs on those before it
            if "norm" not in name and "embed" not in name:
                parameter.mul_(8)
    return model.eval()


@pytest.fixture(scope="module")
def writer(llama: LlamaForCausalLM, tiny_backbone: Path) -> TextDecoder:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny_backbone / "tokenizer.json"))
    backbone = TextBackbone.from_transformers(llama, tokenizer).eval()
    return TextDecoder(backbone, BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8))).eval())


def read(writer: TextDecoder, prompts: list[list[int]]) -> tuple[Tensor, KVCache, Tensor]:
    """What `generate` takes, behind prompts padded on the right."""
    lengths = torch.tensor([len(ids) for ids in prompts])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in prompts], batch_first=True)
    cache = KVCache()
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        hidden, _ = writer.transformer(Tokens.of(writer.backbone.embed(ids), mask), None, cache)
        return writer.backbone.logits(hidden[torch.arange(len(ids)), lengths - 1]), cache, lengths


def write(writer: TextDecoder, prompts: list[list[int]], stop: list[int], **settings: object) -> list[list[int]]:
    """What is written, without the tokens that ended it."""
    settings = {"max_tokens": 12, "forbidden": SPECIAL} | settings
    seeds = settings.pop("seeds", None)
    answers = writer.generate(*read(writer, prompts), GenerationConfig(**settings), stop, seeds)  # type: ignore[arg-type]
    return [ids for ids, _ in answers]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.8])
@pytest.mark.parametrize("stop", [[], [8, 17]])
def test_greedy_is_that_of_transformers(
    writer: TextDecoder, llama: LlamaForCausalLM, penalty: float, stop: list[int]
) -> None:
    """A batch of rows of several lengths against one row at a time; the penalty counts what was written alone."""
    ours = write(writer, PROMPTS, stop or [29], repetition_penalty=penalty)
    for prompt, answer in zip(PROMPTS, ours, strict=True):
        theirs = llama.generate(
            inputs_embeds=llama.get_input_embeddings()(torch.tensor([prompt])),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            repetition_penalty=penalty,
            max_new_tokens=12,
            eos_token_id=stop or [29],
            pad_token_id=0,
        )[0].tolist()
        assert answer == [token for token in theirs if token not in (stop or [29])]
    assert len({tuple(answer) for answer in ours}) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.5, "top_k": 3},
        {"temperature": 0.9, "top_p": 0.6},
        {"temperature": 1.2, "top_k": 8, "top_p": 0.8, "repetition_penalty": 1.4},
    ],
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(
    writer: TextDecoder, settings: dict[str, float]
) -> None:
    """Its processors in its order, then one draw of each row's own generator, among the likeliest if so many count."""
    rows = 200
    logits = 3 * torch.randn(rows, 32, generator=torch.Generator().manual_seed(0))
    seeds = list(range(100, 100 + rows))
    drawn = writer.generate(
        logits, KVCache(), torch.zeros(rows), GenerationConfig(max_tokens=1, forbidden=SPECIAL, **settings), [29], seeds
    )
    processors = LogitsProcessorList()
    if "repetition_penalty" in settings:
        processors.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    processors.append(TemperatureLogitsWarper(settings["temperature"]))
    if "top_k" in settings:
        processors.append(TopKLogitsWarper(int(settings["top_k"])))
    if "top_p" in settings:
        processors.append(TopPLogitsWarper(settings["top_p"]))
    logits[:, list(SPECIAL)] = -math.inf
    shares = processors(torch.zeros(rows, 0, dtype=torch.long), logits).softmax(-1)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    order = shares.topk(int(settings["top_k"])).indices if "top_k" in settings else torch.arange(32).expand(rows, -1)
    each = zip(shares, order, generators, strict=True)
    expected = [int(ids[torch.multinomial(p[ids], 1, generator=g)]) for p, ids, g in each]
    assert drawn == [([token], None) if token != 29 else ([], 29) for token in expected]
    assert len(set(expected)) > 5


def test_seeds_give_the_same_words_whatever_the_batch(writer: TextDecoder) -> None:
    settings = {"temperature": 3.0, "max_tokens": 8}
    together = write(writer, PROMPTS, [29], seeds=[7, 8, 9, 10], **settings)
    for prompt, seed, answer in zip(PROMPTS, range(7, 11), together, strict=True):
        assert write(writer, [prompt], [29], seeds=[seed], **settings) == [answer]
    assert write(writer, PROMPTS, [29], seed=7, **settings) == together
    same = write(writer, [PROMPTS[0]] * 6, [29], seeds=[1, 1, 2, 3, 4, 5], **settings)
    assert same[0] == same[1]
    assert len({tuple(answer) for answer in same}) == 5


def mean_scores(writer: TextDecoder, prompt: list[int], answers: list[list[int]]) -> Tensor:
    """Mean log probability of the tokens of answers of one length, in one pass without a cache."""
    ids = torch.tensor([prompt + answer for answer in answers])
    with torch.no_grad():
        hidden, _ = writer.transformer(Tokens.of(writer.backbone.embed(ids)), None)
        logits = writer.backbone.logits(hidden)
    logits[..., list(SPECIAL)] = -math.inf
    scores = logits[:, len(prompt) - 1 : -1].log_softmax(-1)
    return scores.gather(2, ids[:, len(prompt) :, None]).mean((1, 2))


def test_one_beam_is_greedy_and_more_are_no_worse(writer: TextDecoder) -> None:
    greedy = write(writer, PROMPTS, [29], max_tokens=6)
    one = writer._beam_search(*read(writer, PROMPTS), GenerationConfig(max_tokens=6, beams=1, forbidden=SPECIAL), [29])
    assert [ids for ids, _ in one] == greedy
    several = write(writer, PROMPTS, [29], max_tokens=6, beams=4)
    assert several != greedy
    for prompt, found, plain in zip(PROMPTS, several, greedy, strict=True):
        assert len(found) == len(plain) == 6
        better, worse = mean_scores(writer, prompt, [found, plain]).tolist()
        assert better >= worse - 1e-6
        assert write(writer, [prompt], [29], max_tokens=6, beams=4) == [found]


def test_as_many_beams_as_words_find_the_best_of_all_answers(writer: TextDecoder) -> None:
    """Every answer of two tokens, and of one that stops; more beams than words are as many as words."""
    stop = 4
    for prompt in PROMPTS[:2]:
        answers = [[a, b] for a in range(30) if a != stop for b in range(30)]
        scores = [*mean_scores(writer, prompt, answers).tolist(), *mean_scores(writer, prompt, [[stop]]).tolist()]
        best = [*answers, [stop]][scores.index(max(scores))]
        expected = best[: best.index(stop)] if stop in best else best
        for beams in (30, 64):
            assert write(writer, [prompt], [stop], max_tokens=2, beams=beams) == [expected]


class Scripted(TextDecoder):
    """Certain of each next token: row r writes script[r]."""

    def __init__(self, writer: TextDecoder, script: list[list[int]]) -> None:
        super().__init__(writer.backbone, writer.transformer)
        self.script, self.steps = script, 0

    def logits(self) -> Tensor:
        tokens = torch.tensor([line[min(self.steps, len(line) - 1)] for line in self.script])
        return torch.nn.functional.one_hot(tokens, 32).float()

    def step(self, ids: Tensor, places: Tensor, cache: KVCache) -> Tensor:
        self.steps += 1
        return self.logits()


def test_an_answer_ends_before_the_first_token_that_stops(writer: TextDecoder) -> None:
    script = [[1, 2, 3, 8, 5], [8], [1, 9, 1, 1, 1, 1], [4, 4, 4, 4, 4, 4, 4]]
    scripted = Scripted(writer, script)
    answers = scripted.generate(scripted.logits(), KVCache(), torch.zeros(4), GenerationConfig(max_tokens=5), [8, 9])
    assert answers == [([1, 2, 3], 8), ([], 8), ([1], 9), ([4] * 5, None)]
    assert scripted.steps == 4  # the token after the last is never computed
    scripted = Scripted(writer, script[:3])
    scripted.generate(scripted.logits(), KVCache(), torch.zeros(3), GenerationConfig(max_tokens=50), [8, 9])
    assert scripted.steps == 3  # nor is anything once all have stopped


def test_the_cache_of_one_answer_holds_what_was_written(writer: TextDecoder) -> None:
    """And not the token that ended it: what comes next is what a whole pass says."""
    free = write(writer, PROMPTS, [29], max_tokens=6)
    prompt, answer, stop = next(
        (*pair, token) for pair in zip(PROMPTS, free, strict=True) for token in pair[1] if pair[1].index(token) > 0
    )
    logits, cache, places = read(writer, [prompt])
    config = GenerationConfig(max_tokens=6, forbidden=SPECIAL)
    [(said, ended)] = writer.generate(logits, cache, places, config, [stop])
    assert said == answer[: answer.index(stop)] != []
    assert ended == stop
    assert cache.next_position().tolist() == [len(prompt) + len(said)]
    following = writer.step(torch.tensor([9]), places + len(said), cache)
    torch.testing.assert_close(following, read(writer, [[*prompt, *said, 9]])[0], atol=1e-4, rtol=0)


def test_forbidden_tokens_are_never_written(writer: TextDecoder) -> None:
    first = write(writer, PROMPTS, [29])[0][0]
    for settings in ({}, {"beams": 3}, {"temperature": 5.0}):
        answers = write(writer, PROMPTS, [29], forbidden=(*SPECIAL, first), **settings)
        assert not any(first in answer for answer in answers)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"max_tokens": 2.0},
        {"beams": 65},
        {"beams": True},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": "hot"},
        {"repetition_penalty": None},
        {"seed": "x"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_one_line(settings: dict[str, object]) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{next(iter(settings))} must be ") as caught:
        GenerationConfig(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.fixture
def backbone(reader: MotionGPT3) -> TextBackbone:
    return copy.deepcopy(reader.backbone)


def test_it_is_the_same_network_rounded(backbone: TextBackbone) -> None:
    half = half_precision(backbone)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}
    for (name, weight), (other, rounded) in zip(backbone.named_parameters(), half.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(rounded.float(), weight, rtol=2**-8, atol=0)
    ids = torch.tensor([[3, 4, backbone.start_of_motion]])
    assert half.embed(ids).dtype == torch.bfloat16
    assert half.tokenizer.to_str() == backbone.tokenizer.to_str()
    assert half_precision(half) is half
    assert Tokens.of(half.embed(ids)).embeddings.shape == (1, 3, backbone.config.width)


def test_it_is_kept_until_the_weights_change(backbone: TextBackbone) -> None:
    half = half_precision(backbone)
    assert half_precision(backbone) is half
    with torch.no_grad():
        backbone.special.add_(1)
    changed = half_precision(backbone)
    assert changed is not half
    torch.testing.assert_close(changed.special.float(), backbone.special.detach(), rtol=2**-8, atol=0)
    backbone.special = torch.nn.Parameter(torch.zeros_like(backbone.special))
    assert not half_precision(backbone).special.any()


@pytest.mark.slow
def test_it_does_not_outlive_the_backbone(reader: MotionGPT3) -> None:
    backbone = copy.deepcopy(reader.backbone)
    half = weakref.ref(half_precision(backbone))
    del backbone
    gc.collect()
    assert half() is None
