"""Checkpoints: what is loaded is what was saved, and damage is found and survived."""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from driftway.checkpoints import KEEP, load_checkpoint, read_tensors, save_checkpoint, write_tensors
from driftway.errors import DataError
from driftway.randomness import seeded
from driftway.sums import write_sums


class State:
    """A model, its moving average and its optimiser after some steps."""

    def __init__(self, steps: int = 0, width: int = 3):
        with seeded("state"):
            self.model = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
            self.inputs = torch.randn(8, 2)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.1, fused=True)
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(self.inputs).square().mean().backward()
        self.optimizer.step()
        self.ema.update_parameters(self.model)

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        return self.model, self.ema, self.optimizer

    def tensors(self) -> list[Tensor]:
        states = [self.optimizer.state[p] for p in self.model.parameters()]
        moments = [state[name] for state in states for name in sorted(state)]
        return [*self.model.state_dict().values(), *self.ema.state_dict().values(), *moments]


def same(one: State, other: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


def saved(folder: Path, *steps: int) -> dict[int, State]:
    states = {step: State(step) for step in steps}
    for step, state in states.items():
        save_checkpoint(folder, step, *state.parts, log_size=10 * step)
    return states


def test_a_restored_state_goes_on_in_the_same_bits(tmp_path: Path) -> None:
    state, restored = saved(tmp_path, 4)[4], State()
    assert load_checkpoint(tmp_path, *restored.parts) == (4, 40)
    assert same(state, restored)
    state.step()
    restored.step()
    assert same(state, restored)


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    state = State(2)
    before = copy.deepcopy(state.tensors())
    assert load_checkpoint(tmp_path / "none", *state.parts) is None
    assert all(torch.equal(a, b) for a, b in zip(before, state.tensors(), strict=True))


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    """In the order of steps, not of names: step 1000000 comes after step 999999."""
    for step in (500, 999_999, 1_000_000):
        save_checkpoint(tmp_path, step, *State(1).parts, log_size=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1000000", "step-999999"]
    assert KEEP == 2
    assert load_checkpoint(tmp_path, *State().parts) == (1_000_000, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped bit": lambda step: flip(step / "state.safetensors"),
    "cut short": lambda step: (step / "state.safetensors").write_bytes((step / "state.safetensors").read_bytes()[:50]),
    "no tensors": lambda step: (step / "state.safetensors").unlink(),
    "no description": lambda step: (step / "state.json").unlink(),
    "half a description": lambda step: (step / "state.json").write_text('{"step": 6, "log'),
    "empty description": lambda step: (step / "state.json").write_text("{}"),
    "no checksums": lambda step: (step / "SHA256SUMS").unlink(),
    "torn checksums": lambda step: (step / "SHA256SUMS").write_text("0123"),
    "another kind of description": lambda step: (step / "state.json").write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: Any) -> None:
    states, restored = saved(tmp_path, 3, 6), State()
    damage(tmp_path / "step-000006")
    assert load_checkpoint(tmp_path, *restored.parts) == (3, 30)
    assert same(states[3], restored)
    damage(tmp_path / "step-000003")
    with pytest.raises(DataError, match=r"no checkpoint in .* is whole: .*step-000006.*--force starts over"):
        load_checkpoint(tmp_path, *restored.parts)


def test_a_crash_while_saving_leaves_the_one_before(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    partial = tmp_path / ".step-000006.4194305.partial"  # of a process that cannot be
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path, *State().parts) == (3, 30)
    saved(tmp_path, 6)
    assert load_checkpoint(tmp_path, *State().parts) == (6, 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000006"]


def test_the_checkpoint_of_another_model_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    with pytest.raises(DataError, match=r"step-000003 is of another model .*size mismatch"):
        load_checkpoint(tmp_path, *State(width=4).parts)


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.canary,)  # type: ignore[return-value]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle in place of the tensors is refused, be its digest right, and not run."""
    canary, path = tmp_path / "canary", tmp_path / "step-000006" / "state.safetensors"
    saved(tmp_path, 3, 6)
    payload = pickle.dumps(Bomb(canary))
    path.write_bytes(payload)
    write_sums(path.parent, ("state.json", "state.safetensors"))
    assert load_checkpoint(tmp_path, *State().parts) == (3, 30)
    with pytest.raises(DataError, match="not a readable safetensors file"):
        read_tensors(path, hashlib.sha256(payload).hexdigest())
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()


def test_tensors_are_bound_to_their_digest(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.arange(3.0), "b": torch.zeros((), dtype=torch.int64)}
    digest = write_tensors(path, tensors)
    found = read_tensors(path, digest)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    flip(path)
    with pytest.raises(DataError, match=r"weights.safetensors is damaged: SHA-256 \w{12}… where"):
        read_tensors(path, digest)
    path.unlink()
    with pytest.raises(DataError, match=r"weights.safetensors is missing"):
        read_tensors(path, digest)
