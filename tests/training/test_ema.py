"""Averaged weights: of what trains alone, in place of the weights while validating, kept in checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from motiongpt3.training.ema import EMA


def module() -> Any:
    made = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    made[1].requires_grad_(False)
    return made


def fill(made: Any, value: float) -> None:
    with torch.no_grad():
        made[0].weight.fill_(value)


def trainer(step: int) -> Any:
    return SimpleNamespace(global_step=step)


def test_the_average_follows_its_formula_and_forgets_the_start() -> None:
    made, ema = module(), EMA(0.9)
    fill(made, 0.0)
    ema.on_fit_start(trainer(0), made)
    assert set(ema.average) == {"0.weight"}
    expected = 0.0
    for step in (1, 2, 3, 200):
        fill(made, float(step))
        ema.on_train_batch_end(trainer(step), made)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        torch.testing.assert_close(ema.average["0.weight"], torch.full((2, 2), expected))
    assert (made[0].weight == 200).all()


def test_the_average_takes_the_place_of_the_weights_while_validating() -> None:
    made, ema = module(), EMA(0.5)
    fill(made, 1.0)
    ema.on_fit_start(trainer(0), made)
    fill(made, 3.0)
    frozen = made[1].weight.clone()
    identity = made[0].weight
    ema.on_validation_start(trainer(1), made)
    assert (made[0].weight == 1).all()
    ema.on_validation_end(trainer(1), made)
    assert (made[0].weight == 3).all()
    assert made[0].weight is identity  # the optimiser holds it
    assert torch.equal(made[1].weight, frozen)
    with pytest.raises(KeyError), ema.applied(made):
        raise KeyError
    assert (made[0].weight == 3).all()


def test_a_checkpoint_brings_the_average_back() -> None:
    made, ema = module(), EMA(0.5)
    fill(made, 1.0)
    ema.on_fit_start(trainer(0), made)
    fill(made, 3.0)
    ema.on_train_batch_end(trainer(5), made)
    state = {name: value.clone() for name, value in ema.state_dict().items()}
    other = EMA(0.5)
    other.load_state_dict(state)
    other.on_fit_start(trainer(0), made)
    assert torch.equal(other.average["0.weight"], state["0.weight"])
    assert not torch.equal(other.average["0.weight"], made[0].weight)
    other.on_train_batch_end(trainer(6), made)
    ema.on_train_batch_end(trainer(6), made)
    assert torch.equal(other.average["0.weight"], ema.average["0.weight"])


def test_averaging_leaves_no_trace_of_the_weights_it_started_from() -> None:
    """The average is a copy: training in place must not move it."""
    made, ema = module(), EMA(0.5)
    fill(made, 1.0)
    ema.on_fit_start(trainer(0), made)
    fill(made, 9.0)
    assert (ema.average["0.weight"] == 1).all()
