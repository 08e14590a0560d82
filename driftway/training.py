"""Training: one plain loop for whatever has a `loss`. It knows no method, no data format and no units.

Every random number is keyed by (seed, purpose, step, row): the batch and the noise of step k do not depend on what
was drawn before, so that a run that was killed and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from io import FileIO
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from driftway.checkpoints import load_checkpoint, save_checkpoint
from driftway.data.trajectories import Transition
from driftway.errors import ConfigError, DivergedError, DriftwayError
from driftway.progress import progress
from driftway.randomness import generator, stream
from driftway.schema import TrainingSection
from driftway.storage import explained

LOG = "metrics.jsonl"


class Transitions(Protocol):
    """A sized source of batches: `data.Trajectories.transitions()`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Transition: ...


class Interrupted(DriftwayError):
    """Training was asked to stop and did so after saving."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number, self.exit_code = number, 128 + number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        return type(self), (str(self), self.number)  # it crosses processes


@dataclass(frozen=True)
class Batches:
    """Batch k as a function of (seed, k): shuffled epochs, random shifts along axes with a symmetry, noise on sources.

    `symmetry` counts the cells of the smallest shift that leaves the law unchanged, per axis (0: none). `input_noise`
    is the standard deviation of white noise on sources alone, so that steps learn to come back to the data.
    Reference of the latter: Sanchez-Gonzalez et al. 2020 (arXiv 2002.09405).
    """

    transitions: Transitions
    size: int
    seed: int
    symmetry: tuple[int, ...] = ()
    input_noise: float = 0.0

    def __call__(self, step: int) -> Transition:
        """The batch of optimiser step `step`."""
        batch = self.transitions.batch(self.indices(step))
        batch = self._shifted(batch, step) if any(self.symmetry) else batch
        return self._noisy(batch, step) if self.input_noise else batch

    def indices(self, step: int) -> np.ndarray:
        """Which transitions step `step` sees; every epoch sees each of them once."""
        count, first = len(self.transitions), step * self.size
        last = first + self.size
        epochs = range(first // count, (last - 1) // count + 1)
        orders = [(_permutation(self.seed, epoch, count), epoch * count) for epoch in epochs]
        return np.concatenate([order[max(first - start, 0) : last - start] for order, start in orders])

    def _shifted(self, batch: Transition, step: int) -> Transition:
        """Source, target and known fields, moved together; all rows by the same, which costs the least."""
        rng, axes = generator(self.seed, "shift", step), zip(batch.source.shape[2:], self.symmetry, strict=True)
        shifts = [int(rng.integers(size // period)) * period if period else 0 for size, period in axes]
        dims = list(range(2, batch.source.ndim))
        source, target = (torch.roll(x, shifts, dims) for x in (batch.source, batch.target))
        fields = batch.conditioning.fields
        if fields is not None:  # they may have a finer grid
            finer = zip(shifts, fields.shape[2:], batch.source.shape[2:], strict=True)
            fields = torch.roll(fields, [shift * fine // size for shift, fine, size in finer], dims)
        return Transition(source, target, replace(batch.conditioning, fields=fields))

    def _noisy(self, batch: Transition, step: int) -> Transition:
        noise = stream(self.seed, "input noise", step, rows=range(len(batch.source))).normal(batch.source)
        return batch._replace(source=batch.source + self.input_noise * noise)


class Ahead:
    """Batches that a thread reads while the steps before them are taken: at most `depth` of them wait.

    Which batch belongs to a step is the affair of `batches`, so that what is trained does not depend on the thread.
    """

    def __init__(self, batches: Callable[[int], Transition], steps: int, depth: int = 2):
        self.batches, self.steps, self.depth = batches, steps, depth
        self.thread, self.waiting = ThreadPoolExecutor(1, "batches"), dict[int, Future[Transition]]()

    def __call__(self, step: int) -> Transition:
        """The batch of optimiser step `step`; what goes wrong with it is raised here."""
        for k in range(step, max(step, min(step + self.depth, self.steps - 1)) + 1):
            if k not in self.waiting:
                self.waiting[k] = self.thread.submit(self.batches, k)
        return self.waiting.pop(step).result()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.shutdown(cancel_futures=True)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, "shuffle", epoch).permutation(count)


def learning_rate(settings: TrainingSection, step: int) -> float:
    """Linear warm-up, at most a tenth of the steps, then constant or half a cosine down to zero at the last step."""
    warmup = min(settings.warmup, settings.steps // 10)
    warm = min(1.0, (step + 1) / max(warmup, 1))
    past = max(step - warmup, 0) / max(settings.steps - warmup, 1)
    return (
        settings.learning_rate * warm * (0.5 * (1 + math.cos(math.pi * past)) if settings.schedule == "cosine" else 1)
    )


class Trainer:
    """Weights, their moving average and the optimiser; the model has `loss(batch, stream)`, a scalar."""

    def __init__(self, model: nn.Module, batches: Callable[[int], Transition], settings: TrainingSection, seed: int):
        self.device = device_of(settings.device)
        self.model, self.batches, self.settings, self.seed = model.to(self.device), batches, settings, seed
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))

    def step(self, k: int) -> dict[str, Tensor]:
        """Optimiser step k: loss and gradient norm, as tensors so that nothing waits for a device."""
        batch = moved(self.batches(k), self.device)
        noise = stream(self.seed, "train", k, rows=range(len(batch.source)))
        loss = self.model.loss(batch, noise)  # type: ignore[operator]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.settings.clip or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, k)
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        return {"loss": loss.detach(), "gradient_norm": norm}


def device_of(name: str) -> torch.device:
    """The device `name`; a ConfigError where torch cannot use it."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"training.device: torch cannot use '{name}' here; cpu always works") from error


def moved(batch: Transition, device: torch.device) -> Transition:
    """The batch on `device`."""
    known = batch.conditioning
    fields, params = (None if x is None else x.to(device) for x in (known.fields, known.params))
    return Transition(batch.source.to(device), batch.target.to(device), replace(known, fields=fields, params=params))


def fit(
    model: nn.Module,
    batches: Callable[[int], Transition],
    settings: TrainingSection,
    folder: Path,
    *,
    seed: int,
    resume: bool = False,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    label: str = "training",
) -> nn.Module:
    """Train `model` for `settings.steps` steps and return the moving average of its weights, on the CPU.

    The folder receives `metrics.jsonl` (free of times, so that equal runs write equal files) and `checkpoints/`;
    without `resume` those that are there are replaced. A model without weights takes no steps. Raises DivergedError
    when loss or gradient stops being finite, Interrupted after saving on Ctrl-C or SIGTERM.
    """
    checkpoints = folder / "checkpoints"
    if not resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    if not any(p.requires_grad for p in model.parameters()):
        return _settled(model, folder, validate)
    trainer = Trainer(model, batches, settings, seed)
    first, logged = load_checkpoint(checkpoints, model, trainer.ema, trainer.optimizer) or (0, 0)
    with _log(folder, logged) as log, _stopping() as signals, progress(label, settings.steps, first) as task:
        for k in range(first, settings.steps):
            values = trainer.step(k)
            stop = tuple(signals)  # a signal that comes later is the next step's
            saves = _due(settings.checkpoint_every, k, settings.steps) or bool(stop)
            record = _record(trainer, values, k, saves, validate)
            with explained(folder / LOG):
                if record:
                    log.write((json.dumps({"step": k + 1, **record}) + "\n").encode())
                if saves:
                    os.fsync(log.fileno())
            if saves:
                save_checkpoint(checkpoints, k + 1, model, trainer.ema, trainer.optimizer, log.tell())
            task.advance(1, f"loss {record['loss']:.4f}" if "loss" in record else "")
            if stop and k + 1 < settings.steps:
                done = f"stopped after step {k + 1} of {settings.steps}, saved in {checkpoints}"
                raise Interrupted(f"{done}; go on with --resume", stop[0])
    return trainer.ema.module.cpu()


def _settled(model: nn.Module, folder: Path, validate: Callable[[nn.Module], dict[str, float]] | None) -> nn.Module:
    """A model that has no weights, and a log that says how good it is."""
    found = {} if validate is None else validate(model)
    with _log(folder, 0) as log, explained(folder / LOG):
        log.write((json.dumps({"step": 0, **_finite(found)}) + "\n").encode())
    return model


def _record(
    trainer: Trainer,
    values: dict[str, Tensor],
    k: int,
    saves: bool,
    validate: Callable[[nn.Module], dict[str, float]] | None,
) -> dict[str, float | None]:
    """What step k adds to the log; nothing is logged, validated or saved of a model that has diverged."""
    settings, record = trainer.settings, dict[str, float | None]()
    logs = _due(settings.log_every, k, settings.steps)
    validates = validate is not None and _due(settings.validate_every, k, settings.steps)
    if logs or saves or validates:
        _check_finite(values, k, settings)
    if logs:
        record |= {name: float(value) for name, value in values.items()}
        record["learning_rate"] = learning_rate(settings, k)
    if validate is not None and validates:
        record |= _finite(validate(trainer.ema.module))
    return record


def _finite(found: dict[str, float]) -> dict[str, float | None]:
    """A short forecast may well blow up early in training, and JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _check_finite(values: dict[str, Tensor], k: int, settings: TrainingSection) -> None:
    loss, norm = float(values["loss"]), float(values["gradient_norm"])
    if not math.isfinite(loss + norm):
        raise DivergedError(
            f"loss {loss:g}, gradient norm {norm:g} at step {k + 1}: lower training.learning_rate "
            f"(now {settings.learning_rate:g}) or check the data, and start over with --force"
        )


@contextmanager
def _log(folder: Path, size: int) -> Iterator[FileIO]:
    """The log, cut to what it held when the checkpoint was written, to be continued."""
    path = folder / LOG
    with explained(path):
        path.touch()
        log = path.open("r+b", buffering=0)
    with log:
        log.truncate(min(size, path.stat().st_size))
        log.seek(0, os.SEEK_END)
        yield log


def _due(every: int, k: int, steps: int) -> bool:
    return (k + 1) % every == 0 or k + 1 == steps


@contextmanager
def _stopping() -> Iterator[Sequence[int]]:
    """A list that receives the number of the first SIGINT, SIGTERM or SIGUSR1, in place of ending the process."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    try:
        before = {number: signal.signal(number, catch) for number in numbers}
    except ValueError:  # not the main thread: whoever runs it handles signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def history(folder: Path) -> list[dict[str, float]]:
    """What a run logged, step by step; of a run that is under way, the lines that are complete."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
