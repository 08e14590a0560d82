"""Training: one plain loop for whatever has a `loss`. It knows no method, no data format and no units.

Every random number is keyed by (seed, purpose, step, row): the batch and the noise of step k do not depend on what
was drawn before, so that a run that was killed and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from driftway.checkpoints import load_checkpoint, save_checkpoint
from driftway.data.trajectories import Transition
from driftway.errors import DivergedError, DriftwayError
from driftway.progress import Task, progress
from driftway.randomness import generator, stream
from driftway.schema import TrainingSection
from driftway.storage import explained


class Trainable(Protocol):
    """What the loop needs of a model, besides being an nn.Module."""

    def loss(self, batch: Transition, stream: object) -> Tensor: ...


class Transitions(Protocol):
    """A sized source of batches: `data.Trajectories.transitions()`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Transition: ...


class Interrupted(DriftwayError):
    """Training was asked to stop and did so after saving."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Batches:
    """Batch k as a function of (seed, k): shuffled epochs, and random shifts along axes with a symmetry.

    `symmetry` counts the cells of the smallest shift that leaves the law unchanged, per axis (0: none).
    """

    transitions: Transitions
    size: int
    seed: int
    symmetry: tuple[int, ...] = ()

    def __call__(self, step: int) -> Transition:
        """The batch of optimiser step `step`."""
        batch = self.transitions.batch(self.indices(step))
        return self._shift(batch, step) if any(self.symmetry) else batch

    def indices(self, step: int) -> np.ndarray:
        """Which transitions step `step` sees; every epoch sees each of them once."""
        count = len(self.transitions)
        places = np.arange(step * self.size, (step + 1) * self.size)
        return np.array([_permutation(self.seed, int(p // count), count)[p % count] for p in places])

    def _shift(self, batch: Transition, step: int) -> Transition:
        rng = generator(self.seed, "shift", step)
        rows = len(batch.source)
        index: list[Tensor] = [torch.arange(rows).reshape(-1, 1, *(1 for _ in self.symmetry))]
        index.append(torch.arange(batch.source.shape[1]).reshape(1, -1, *(1 for _ in self.symmetry)))
        for axis, (size, period) in enumerate(zip(batch.source.shape[2:], self.symmetry, strict=True)):
            shifts = rng.integers(0, size // period, rows) * period if period else np.zeros(rows, dtype=np.int64)
            places = (np.arange(size)[None] + shifts[:, None]) % size
            shape = [rows, 1] + [1] * len(self.symmetry)
            shape[2 + axis] = size
            index.append(torch.from_numpy(places).reshape(shape))
        at = tuple(index)
        return Transition(batch.source[at], batch.target[at], batch.conditioning)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, "shuffle", epoch).permutation(count)


def learning_rate(settings: TrainingSection, step: int) -> float:
    """Linear warm-up, then constant or half a cosine down to zero at the last step."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    past = max(step - settings.warmup, 0) / max(settings.steps - settings.warmup, 1)
    return (
        settings.learning_rate * warm * (0.5 * (1 + math.cos(math.pi * past)) if settings.schedule == "cosine" else 1)
    )


class Trainer:
    """One training run in one folder: weights, their moving average, optimiser, checkpoints and log."""

    def __init__(self, model: nn.Module, batches: Callable[[int], Transition], settings: TrainingSection, seed: int):
        self.model, self.batches, self.settings, self.seed = model, batches, settings, seed
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, settings.learning_rate, weight_decay=settings.weight_decay)
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))

    def step(self, k: int) -> dict[str, Tensor]:
        """Optimiser step k: loss and gradient norm, as tensors so that nothing waits for a device."""
        batch = self.batches(k)
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
    """Train `model` for `settings.steps` steps and return the moving average of its weights.

    The folder receives `metrics.jsonl` (free of times, so that equal runs write equal files) and `checkpoints/`.
    Raises DivergedError when loss or gradient stops being finite, Interrupted after saving on Ctrl-C or SIGTERM.
    """
    trainer = Trainer(model, batches, settings, seed)
    checkpoints, log_path = folder / "checkpoints", folder / "metrics.jsonl"
    restored = load_checkpoint(checkpoints, model, trainer.ema, trainer.optimizer) if resume else None
    first, log_size = restored or (0, 0)
    with explained(log_path):
        log_path.touch()
        with log_path.open("r+b") as log:
            log.truncate(log_size)
            log.seek(log_size)
            with _stopping() as stop, progress(label, settings.steps) as task:
                task.advance(first)
                for k in range(first, settings.steps):
                    _train_step(trainer, k, log, task, validate)
                    if _due(settings.checkpoint_every, k, settings.steps) or stop:
                        save_checkpoint(checkpoints, k + 1, model, trainer.ema, trainer.optimizer, log.tell())
                    if stop and k + 1 < settings.steps:
                        raise Interrupted(
                            f"stopped after step {k + 1} of {settings.steps}, saved in {checkpoints}; go on with --resume",
                            stop[0],
                        )
    return trainer.ema.module


def _train_step(
    trainer: Trainer, k: int, log, task: Task, validate: Callable[[nn.Module], dict[str, float]] | None
) -> None:  # type: ignore[no-untyped-def]
    settings = trainer.settings
    values = trainer.step(k)
    record: dict[str, float | int] = {}
    info = ""
    if _due(settings.log_every, k, settings.steps):
        record = {name: float(value) for name, value in values.items()}
        if not all(math.isfinite(value) for value in record.values()):
            raise DivergedError(
                f"loss {record['loss']:g}, gradient norm {record['gradient_norm']:g} at step {k + 1}: lower "
                f"training.learning_rate (now {settings.learning_rate:g}) or check the data; earlier checkpoints are kept"
            )
        record["learning_rate"] = learning_rate(settings, k)
        info = f"loss {record['loss']:.4f}"
    if validate is not None and _due(settings.validate_every, k, settings.steps):
        record |= validate(trainer.ema.module)
    if record:
        log.write((json.dumps({"step": k + 1, **record}) + "\n").encode())
        log.flush()
    task.advance(1, info)


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
    """What a run logged, step by step."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
