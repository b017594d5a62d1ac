"""The loop: resuming gives the same weights, a bad loss stops the run, checkpoints are whole or not there."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.training.trainer import EMA, AtomicCheckpoints, RunConfig, TrainingModule, device, fit


class Line(TrainingModule):
    """A small network with dropout on batches that depend on the step."""

    def __init__(self, run: RunConfig, bad_step: int = -1) -> None:
        super().__init__(run)
        torch.manual_seed(run.seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.bad_step = bad_step
        self.seen: list[tuple[int, float]] = []
        self.validated: list[tuple[int, Tensor]] = []

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], list[str]]]:
        step = self.global_step
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(self.run.seed * 1000 + step))
        loss = (self.net(x).squeeze(1) - x.sum(1)).square().mean()
        loss = loss * float("nan") if step == self.bad_step else loss
        self.seen.append((step, loss.item()))
        return loss, {}, lambda: [f"clip_{step}"]

    def validation_step(self, _: Any, index: int) -> None:
        assert not self.net.training
        self.validated.append((self.global_step, self.net[0].weight.clone()))


Run = Callable[..., RunConfig]


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(run: Run, killed: Callable, step: int) -> None:
    whole, first, second = Line(run("whole")), Line(run("killed")), Line(run("killed"))
    fit(whole, progress=False)
    killed(fit, first, step)
    fit(second, resume=True, progress=False)
    assert [s for s, _ in whole.seen] == list(range(6))
    assert [s for s, _ in second.seen] == list(range(step, 6))
    assert second.seen == whole.seen[step:]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_resumed_run_keeps_its_curves(run: Run, killed: Callable) -> None:
    first, second = Line(run()), Line(run())
    killed(fit, first, 4)
    fit(second, resume=True, progress=False)
    with (Path(first.run.out) / "metrics" / "metrics.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["train/loss"]]
    losses = {int(line["step"]): float(line["train/loss"]) for line in lines}
    assert losses == {step: pytest.approx(loss) for step, loss in first.seen + second.seen}
    assert sorted(losses) == list(range(6))


def test_steps_that_are_made_again_are_written_once(run: Run, killed: Callable) -> None:
    """The killed run got further than its last checkpoint, and died in the middle of a line."""
    first = Line(run())
    killed(fit, first, 3)
    file = Path(first.run.out) / "metrics" / "metrics.csv"
    head, *lines = file.read_text().splitlines()
    row = ",".join({"epoch": "0", "step": "4"}.get(name, "9.5") for name in head.split(","))
    file.write_text("\n".join([head, *lines, row, row[:2]]))
    fit(Line(run()), resume=True, progress=False)
    with file.open() as stream:
        assert [int(line["step"]) for line in csv.DictReader(stream) if line["train/loss"]] == list(range(6))
    assert "9.5" not in file.read_text()


@pytest.mark.parametrize(
    "bad",
    [
        {"clip": 0.0},
        {"steps": 0},
        {"log_every": 0},
        {"validate_every": 0},
        {"seed": 2**63},
        {"ema": 1.0},
        {"learning_rate": float("nan")},
        {"warmup": -1},
        {"checkpoint_minutes": -1.0},
    ],
)
def test_settings_that_cannot_train_are_refused(run: Run, bad: dict[str, Any]) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{next(iter(bad))} must be"):
        run(**bad)


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "sizes"])
def test_a_checkpoint_that_does_not_fit_is_one_line(run: Run, damage: str) -> None:
    module = Line(run())
    fit(module, progress=False)
    path = Path(module.run.out) / "checkpoints" / "last.ckpt"
    data = path.read_bytes()
    again = Line(run())
    if damage == "sizes":
        again.net[2] = nn.Linear(8, 2)
    else:
        path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "other": b"hello"}[damage])
    with pytest.raises(MotionGPT3Error, match="start without resuming") as caught:
        fit(again, resume=True, progress=False)
    assert "\n" not in str(caught.value)


def test_a_finished_run_can_be_resumed_without_change(run: Run) -> None:
    first, again = Line(run()), Line(run())
    fit(first, progress=False)
    fit(again, resume=True, progress=False)
    assert again.seen == []
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


@pytest.mark.slow
def test_the_seed_decides(run: Run) -> None:
    results = []
    for seed in (0, 0, 1):
        module = Line(run(f"run{len(results)}", seed=seed))
        fit(module, progress=False)
        results.append(module.seen)
    assert results[0] == results[1] != results[2]


def test_nothing_to_resume(run: Run) -> None:
    with pytest.raises(MotionGPT3Error, match="nothing to resume"):
        fit(Line(run()), resume=True, progress=False)


@pytest.mark.parametrize("bad", [0, 3, 5])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_clips(run: Run, bad: int) -> None:
    """Also in the last step; and the checkpoint that remains is one from before."""
    module = Line(run(), bad_step=bad)
    with pytest.raises(MotionGPT3Error, match=f"loss of step {bad} is not finite; the batch held clip_{bad}$"):
        fit(module, progress=False)
    last = Path(module.run.out) / "checkpoints" / "last.ckpt"
    assert last.is_file() == (bad > 0)
    if bad:
        state = torch.load(last, weights_only=True)["state_dict"]
        assert all(torch.isfinite(tensor).all() for tensor in state.values())
        again = Line(run())
        fit(again, resume=True, progress=False)
        assert again.seen[0][0] == bad


def test_a_bad_loss_stops_a_run_that_keeps_no_checkpoints(run: Run) -> None:
    module = Line(run(checkpoint_minutes=60.0), bad_step=3)
    with pytest.raises(MotionGPT3Error, match="loss of step 3 is not finite"):
        fit(module, progress=False)
    assert module.seen[-1][0] <= 4


def test_the_average_is_validated_and_is_what_remains(run: Run) -> None:
    module, last = Line(run(ema=0.9)), Line(run("other", ema=0.0))
    fit(module, progress=False)
    fit(last, progress=False)
    assert [step for step, _ in module.validated] == [4]
    assert module.seen == last.seen  # validating the average did not disturb the training
    assert not torch.equal(module.validated[0][1], last.validated[0][1])
    assert not torch.equal(weights(module)[0], weights(last)[0])
    saved = torch.load(Path(last.run.out) / "checkpoints" / "last.ckpt", weights_only=True)
    # With no decay the average is the weights themselves.
    assert torch.equal(weights(last)[0], saved["state_dict"]["net.0.weight"])


def test_the_schedule(run: Run) -> None:
    module = Line(run(steps=12, warmup=4, learning_rate=1.0))
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-3)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4] == pytest.approx(1.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.1
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("warmup", [0, 6, 100])
def test_odd_warmups_train(run: Run, warmup: int) -> None:
    module = Line(run(warmup=warmup))
    fit(module, progress=False)
    assert len(module.seen) == 6


def test_gradients_are_clipped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    class Watched(Line):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            found = [p.grad for p in self.parameters() if p.grad is not None]
            if found:
                norms.append(torch.stack([g.norm() for g in found]).norm().item())

    fit(Watched(run(clip=0.01)), progress=False)
    assert norms
    assert max(norms) <= 0.0101


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    keeper = AtomicCheckpoints()
    keeper.save_checkpoint({"step": torch.tensor(1)}, path)

    def half(checkpoint: Any, file: Any) -> None:
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        keeper.save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_one_checkpoint_is_kept_and_nothing_in_it_needs_unpickling(run: Run) -> None:
    module = Line(run())
    fit(module, progress=False)
    folder = Path(module.run.out)
    assert os.listdir(folder / "checkpoints") == ["last.ckpt"]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    assert len((folder / "metrics" / "metrics.csv").read_text().splitlines()) > 6


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
    assert (ema.average["0.weight"] == 1).all()
    assert made[0].weight is identity  # the optimiser holds it
    assert torch.equal(made[1].weight, frozen)


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


def test_device() -> None:
    assert device("cpu").type == "cpu"
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
