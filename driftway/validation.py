"""What training is watched by: how well an autoencoder reconstructs, how well a stepper forecasts the valid split."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from driftway.calculus import weights
from driftway.codecs import Chain
from driftway.data import Trajectories
from driftway.data.starts import start_frames
from driftway.data.trajectories import Transition
from driftway.emulator import repeated
from driftway.errors import DataError
from driftway.feeding import Encoded
from driftway.metrics import crps, vrmse
from driftway.randomness import stream
from driftway.schema import ValidationSection
from driftway.training import Transitions, moved


def some(transitions: Transitions, count: int) -> Transition:
    """At most `count` transitions, evenly spaced."""
    return transitions.batch(np.linspace(0, len(transitions) - 1, min(count, len(transitions))).astype(int))


class Reconstructions:
    """VRMSE of decoded frames of the valid split, as what stands before the autoencoder encodes them."""

    def __init__(self, transitions: Encoded, count: int = 64):
        self.weights = weights(transitions.data.axes)
        self.batch = some(transitions, count)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        autoencoder: Any = model
        frames, _, known = moved(self.batch, next(model.parameters()).device)
        decoded = autoencoder.decode(autoencoder.encode(frames, known.fixed), known.fixed)
        return {
            "valid_vrmse": float(
                vrmse(decoded, frames, space=frames.ndim - 2, weights=_on(self.weights, frames)).mean()
            )
        }


class Rollouts:
    """Scores of short forecasts of the valid split, in encoded space, averaged over their leads.

    Means over space take the quadrature weights of the encoded axes.
    """

    def __init__(self, states: Trajectories, codec: Chain, stride: int, settings: ValidationSection, seed: int):
        valid = states.split("valid")
        count, leads = min(settings.trajectories, valid.shape[0]), min(settings.leads, (valid.shape[1] - 1) // stride)
        if leads < 1:
            raise DataError(f"validation trajectories have {valid.shape[1]} frames, too few for one step of {stride}")
        apart = (valid.shape[1] - 1) // (leads * stride)
        starts = start_frames(valid.shape[1], leads * stride, min(-(-settings.trajectories // count), apart))
        self.data = valid.select(range(count)).windows(starts, leads * stride + 1).load()
        frames = torch.from_numpy(np.asarray(self.data.states))[:, ::stride]
        self.states: Tensor = codec.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        self.stride, self.members, self.seed = stride, settings.members, seed
        self.weights = weights(states.axes)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        stepper: Any = model
        device = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
        truth, members = self.states.to(device), self.members if stepper.random else 1
        count, leads, space = len(truth), truth.shape[1] - 1, truth.ndim - 3
        now = truth[:, 0].repeat(members, *(1,) * (truth.ndim - 2))
        keys = [(row, m) for m in range(members) for row in range(count)]
        mean: Any = {"space": space, "weights": _on(self.weights, truth)}
        errors, scores = [], []
        for lead in range(1, leads + 1):
            at = np.full(count, (lead - 1) * self.stride)
            known = repeated(self.data.conditioning(np.arange(count), at, self.stride), slice(None), members, now)
            now = stepper.step(now, known, stream(self.seed, "validate", lead, rows=keys))
            ensemble = now.unflatten(0, (members, count))
            errors.append(float(vrmse(ensemble.mean(0), truth[:, lead], **mean).mean()))
            scores.append(float(crps(ensemble, truth[:, lead], **mean).mean()))
        return {"valid_vrmse": float(np.mean(errors)), "valid_crps": float(np.mean(scores))}


def _on(weights: Tensor | None, like: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(like.device)
