"""The training loop: what a step does, what it writes, and what it does when something goes wrong."""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning, Trajectories, Transition
from driftway.errors import ConfigError, DataError, DivergedError
from driftway.randomness import Stream, generator, seeded, stream
from driftway.schema import TrainingSection
from driftway.training import Ahead, Batches, Interrupted, Trainer, fit, history, learning_rate


class Line(nn.Module):
    """Fits target = w·source + noise of the stream."""

    def __init__(self) -> None:
        super().__init__()
        with seeded("line"):
            self.linear = nn.Linear(3, 3)

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        noise = 0.1 * stream.normal(batch.source)
        return (self.linear(batch.source) - batch.target + noise).square().mean()


def batches(k: int) -> Transition:
    rng = generator("line", k)
    source = torch.from_numpy(rng.standard_normal((4, 3))).float()
    return Transition(source, source.flip(1))


def settings_with(**changes: Any) -> TrainingSection:
    values: dict[str, Any] = {"steps": 12, "warmup": 3, "log_every": 4, "checkpoint_every": 4, "validate_every": 6}
    return TrainingSection(**(values | changes))


def trained(folder: Path, source: Callable[[int], Transition] = batches, resume: bool = False, **changes: Any) -> Line:
    folder.mkdir(exist_ok=True)
    model: Any = fit(Line(), source, settings_with(**changes), folder, seed=1, resume=resume)
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- one step ------------------------------------------------------------------------------------------------------


def test_a_step_is_adamw_on_clipped_gradients_and_a_moving_average() -> None:
    """Against the same thing written out: AdamW and the recursion of the average in numpy's words."""
    options = settings_with(steps=30, clip=0.05, ema=0.8, learning_rate=0.02, weight_decay=0.1)
    model = Line()
    reference, trainer = copy.deepcopy(model), Trainer(model, batches, options, seed=1)
    moments = {name: (np.zeros(p.shape), np.zeros(p.shape)) for name, p in reference.named_parameters()}
    weights = {name: p.detach().double().numpy().copy() for name, p in reference.named_parameters()}
    average: dict[str, np.ndarray] = {}
    for k in range(6):
        trainer.step(k)
        reference.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        loss = reference.loss(batches(k), stream(1, "train", k, rows=range(4)))
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(reference.parameters())), strict=True))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        rate = 0.02 * min(1, (k + 1) / 3) * (0.5 * (1 + math.cos(math.pi * max(k - 3, 0) / 27)))
        assert norm > 0.05
        for name, w in weights.items():
            g = gradients[name].double().numpy() * 0.05 / (norm + 1e-6)
            first, second = moments[name]
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            moments[name] = (first, second)
            step = first / (1 - 0.9 ** (k + 1)) / (np.sqrt(second / (1 - 0.999 ** (k + 1))) + 1e-8)
            weights[name] = w * (1 - rate * 0.1) - rate * step
            average[name] = weights[name] if k == 0 else 0.8 * average[name] + 0.2 * weights[name]
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.detach(), weights[name], atol=2e-5)
    for name, p in trainer.ema.module.named_parameters():
        np.testing.assert_allclose(p.detach(), average[name], atol=2e-5)


def test_without_a_limit_gradients_are_not_clipped() -> None:
    clipped, free = (Trainer(Line(), batches, settings_with(clip=c), 1) for c in (1e-3, None))
    norms = [float(trainer.step(0)["gradient_norm"]) for trainer in (clipped, free)]
    assert norms[0] == norms[1] > 0.1  # the norm that is logged is that before clipping
    gradients = [torch.cat([p.grad.flatten() for p in t.weights if p.grad is not None]) for t in (clipped, free)]
    assert float(gradients[0].norm()) == pytest.approx(1e-3, rel=1e-3)
    assert float(gradients[1].norm()) == pytest.approx(norms[1], rel=1e-5)


def test_the_learning_rate_warms_up_and_falls_along_half_a_cosine() -> None:
    cosine = settings_with(steps=100, warmup=10, learning_rate=0.2)
    rates = [learning_rate(cosine, k) for k in range(100)]
    assert rates[:10] == pytest.approx([0.02 * (k + 1) for k in range(10)])
    assert (
        rates[55] == pytest.approx(0.1)
        and rates[99] < 1e-4
        and rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    )
    for warmup in (10, 11, 100, 10**6):  # at most a tenth of the steps
        long = settings_with(steps=100, warmup=warmup, learning_rate=0.2)
        assert [learning_rate(long, k) for k in range(100)] == rates
    short = settings_with(steps=6, warmup=2, schedule="constant", learning_rate=0.2)
    assert [learning_rate(short, k) for k in range(6)] == [0.2] * 6
    constant = settings_with(steps=100, warmup=0, schedule="constant", learning_rate=0.2)
    assert {learning_rate(constant, k) for k in range(100)} == {0.2}


# --- batches -------------------------------------------------------------------------------------------------------


class Numbers:
    """Transitions that are their own numbers."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: np.ndarray) -> Transition:
        x = torch.from_numpy(indices).double().reshape(-1, 1, 1)
        return Transition(x, x)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_epoch_sees_each_transition_once(count: int, size: int, seed: int) -> None:
    source = Batches(Numbers(count), size, seed)
    steps = 3 * count // size + 1
    seen = torch.cat([source(k).source.flatten() for k in range(steps)])
    for epoch in range(len(seen) // count):
        assert sorted(seen[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))
    k = steps - 1
    assert torch.equal(source(k).source, Batches(Numbers(count), size, seed)(k).source)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    first, second = (Batches(Numbers(50), 50, 0)(epoch).source.flatten().tolist() for epoch in (0, 1))
    other = Batches(Numbers(50), 50, 1)(0).source.flatten().tolist()
    assert len({tuple(order) for order in (first, second, other, sorted(first))}) == 4


def shifted_batches(symmetry: tuple[int, int]) -> Batches:
    """Transitions of random fields over a static one, all in one batch."""
    rng, axes = generator("shifted"), (Axis.uniform("x", 6, 1.0), Axis.uniform("y", 8, 1.0))
    states, ground = rng.standard_normal((5, 4, 2, 6, 8)), rng.standard_normal((6, 8))
    fields, static = Fields(("u", "v"), ("1", "1")), {"ground": ground.astype(np.float32)}
    data = Trajectories(states.astype(np.float32), fields, axes, 1.0, static=static)
    return Batches(data.transitions(), 15, 0, symmetry)


def test_shifts_move_source_target_and_known_fields_together() -> None:
    plain, shifted, found = shifted_batches((0, 0)), shifted_batches((2, 1)), set()
    places = [(i, j) for i in range(6) for j in range(8)]
    for k in range(20):
        (a, b, known), (x0, x1, moved) = plain(k), shifted(k)
        assert known.fields is not None and moved.fields is not None
        by = next(place for place in places if torch.equal(torch.roll(a, place, (2, 3)), x0))
        assert torch.equal(torch.roll(b, by, (2, 3)), x1)
        assert torch.equal(torch.roll(known.fields, by, (2, 3)), moved.fields)
        found.add(by)
    assert {i for i, _ in found} == {0, 2, 4} and len({j for _, j in found}) > 4


def test_sources_get_noise_and_targets_none() -> None:
    """Of the standard deviation asked for, new at every step, the same when a run is resumed."""
    plain, noisy = (Batches(Numbers(4000), 2000, 3, input_noise=s) for s in (0.0, 0.5))
    added = [noisy(k).source - plain(k).source for k in (0, 1, 0)]
    assert all(torch.equal(noisy(k).target, plain(k).target) for k in (0, 1))
    assert torch.equal(added[0], added[2]) and not torch.equal(added[0], added[1])
    for noise in added:
        assert abs(float(noise.mean())) < 0.05 and float(noise.std()) == pytest.approx(0.5, rel=0.06)


def test_an_axis_without_a_symmetry_is_not_shifted() -> None:
    plain, shifted = shifted_batches((0, 0)), shifted_batches((0, 4))
    for k in range(3):
        for a, b in zip(plain(k).source, shifted(k).source, strict=True):
            assert torch.equal(a, b) or torch.equal(torch.roll(a, 4, 2), b)


# --- what is written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 3, 6])
def test_batches_that_are_read_ahead_are_those_of_their_steps(first: int) -> None:
    asked, gate = list[int](), threading.Event()

    def batch(k: int) -> Transition:
        asked.append(k)
        gate.wait(10)
        return batches(k)

    with Ahead(batch, steps=7, depth=2) as ahead:
        threading.Timer(0.05, gate.set).start()
        for k in range(first, 7):
            assert torch.equal(ahead(k).source, batches(k).source)
            assert len(asked) <= k - first + 3 and max(asked) < 7
    assert asked == list(range(first, 7))


def test_what_goes_wrong_ahead_is_raised_at_its_step(tmp_path: Path) -> None:
    def batch(k: int) -> Transition:
        if k == 4:
            raise DataError("frame 4 is damaged")
        return batches(k)

    with Ahead(batch, steps=6) as ahead, pytest.raises(DataError, match="frame 4 is damaged"):
        trained(tmp_path, ahead, steps=6, log_every=1)
    assert len(history(tmp_path)) == 4


def test_the_log_holds_loss_norm_rate_and_validation(tmp_path: Path) -> None:
    model = fit(Line(), batches, settings_with(), tmp_path, seed=1, validate=lambda m: {"valid": 2.0, "wild": math.inf})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]
    assert records == history(tmp_path) and [record["step"] for record in records] == [4, 6, 8, 12]
    trainer = Trainer(Line(), batches, settings_with(), 1)
    values = [trainer.step(k) for k in range(12)]
    for record in records:
        k = record["step"] - 1
        if record["step"] % 4 == 0:
            assert record["loss"] == float(values[k]["loss"])
            assert record["gradient_norm"] == float(values[k]["gradient_norm"])
            assert record["learning_rate"] == learning_rate(settings_with(), k)
        if record["step"] % 6 == 0:
            assert record["valid"] == 2.0 and record["wild"] is None
    assert records[1].keys() == {"step", "valid", "wild"}
    assert same(model, trainer.ema.module)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)], ids=lambda v: str(v)
)
def test_a_signal_saves_and_the_resumed_run_ends_in_the_same_bits(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """It comes in the middle of step 6, which is neither logged nor saved otherwise."""

    def interrupted(k: int) -> Transition:
        if k == 5:
            signal.raise_signal(number)
        return batches(k)

    whole = trained(tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"stopped after step 6 of 12, saved in .*--resume") as caught:
        trained(tmp_path / "cut", interrupted)
    assert caught.value.exit_code == code and signal.getsignal(number) is before
    assert (tmp_path / "cut" / "checkpoints" / "step-000006").is_dir()
    assert same(trained(tmp_path / "cut", resume=True), whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bits(tmp_path: Path) -> None:
    whole = trained(tmp_path / "run")
    files = ("checkpoints/step-000012/state.safetensors", "metrics.jsonl")
    before = [(tmp_path / "run" / name).read_bytes() for name in files]
    with (tmp_path / "run" / files[0]).open("r+b") as file:
        file.seek(200)
        file.write(b"\0\1\2\3")
    assert same(trained(tmp_path / "run", resume=True), whole)
    assert [(tmp_path / "run" / name).read_bytes() for name in files] == before


def test_starting_over_leaves_nothing_of_the_run_before(tmp_path: Path) -> None:
    """A longer run's checkpoints would outlive the new ones and be resumed from."""
    trained(tmp_path / "run", steps=30)
    with pytest.raises(Interrupted):
        trained(tmp_path / "run", lambda k: signal.raise_signal(signal.SIGTERM) or batches(k) if k == 4 else batches(k))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000004", "step-000005"]
    assert same(trained(tmp_path / "run", resume=True), trained(tmp_path / "whole"))


def test_a_lost_log_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trained(tmp_path / "run", lambda k: signal.raise_signal(signal.SIGTERM) or batches(k) if k == 9 else batches(k))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    trained(tmp_path / "run", resume=True)
    assert [record["step"] for record in history(tmp_path / "run")] == [12]


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_never_reaches_a_checkpoint(tmp_path: Path, value: float) -> None:
    """It comes between two entries of the log, before a checkpoint is due."""

    def broken(k: int) -> Transition:
        source, target, _ = batches(k)
        return Transition(source, target + (value if k == 6 else 0))

    validated: list[bool] = []

    def validate(model: nn.Module) -> dict[str, float]:
        validated.append(all(bool(torch.isfinite(p).all()) for p in model.parameters()))
        return {}

    options = settings_with(log_every=100, validate_every=1)
    with pytest.raises(DivergedError, match=r"at step 7: lower training.learning_rate \(now 0.001\)"):
        fit(Line(), broken, options, tmp_path, seed=1, validate=validate)
    assert validated == [True] * 6
    with pytest.raises(DivergedError, match="at step 8"):
        trained(tmp_path / "run", broken, log_every=100, validate_every=100)
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-000004"]
    for tensor in load_file(kept[0] / "state.safetensors").values():
        assert bool(torch.isfinite(tensor).all())


def test_a_gradient_that_overflows_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    """The loss is finite, its gradient is not."""

    class Steep(Line):
        calls = 0

        def loss(self, batch: Transition, stream: Stream) -> Tensor:
            self.calls, w = self.calls + 1, self.linear.weight
            return (w - w.detach()).square().sum().sqrt() if self.calls == 4 else super().loss(batch, stream)

    with pytest.raises(DivergedError, match="loss 0, gradient norm nan at step 4"):
        fit(Steep(), batches, settings_with(log_every=100), tmp_path, seed=1)
    assert not (tmp_path / "checkpoints").exists()


def test_an_unknown_device_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.device: torch cannot use 'cuda:77' here"):
        trained(tmp_path, device="cuda:77")


def test_training_runs_outside_of_the_main_thread(tmp_path: Path) -> None:
    """Where signals cannot be caught."""
    found: list[Line] = []
    thread = threading.Thread(target=lambda: found.append(trained(tmp_path / "thread")))
    thread.start()
    thread.join()
    assert same(found[0], trained(tmp_path / "main"))


def test_conditioning_survives_the_loop() -> None:
    known = Conditioning(torch.ones(4, 1, 3), torch.ones(4, 2))
    seen: list[Conditioning] = []

    class Watching(Line):
        def loss(self, batch: Transition, stream: Stream) -> Tensor:
            seen.append(batch.conditioning)
            return super().loss(batch, stream)

    Trainer(Watching(), lambda k: Transition(*batches(k)[:2], known), settings_with(), 0).step(0)
    assert seen[0].fields is not None and torch.equal(seen[0].fields, torch.ones(4, 1, 3))
    assert seen[0].params is not None and torch.equal(seen[0].params, torch.ones(4, 2))
