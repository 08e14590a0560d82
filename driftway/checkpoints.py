"""Checkpoints: tensors in safetensors, the rest in JSON, with the SHA-256 of both. Nothing is ever unpickled.

A checkpoint is a folder `step-000500` with `state.safetensors`, `state.json` and `SHA256SUMS`, put in place by one
rename, so that a crash at any moment leaves the previous one whole. Besides the tensors it holds only the step number:
batches and noise are functions of (seed, step).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from driftway.errors import DataError
from driftway.storage import PLACE, atomic_folder, atomic_write, explained, sha256
from driftway.sums import SUMS, differences, read_sums, write_sums

KEEP = 2
STATE, TENSORS = "state.json", "state.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors to a safetensors file at once or not at all; returns its SHA-256."""
    atomic_write(path, save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}))
    return sha256(path)


def read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Read a safetensors file whose SHA-256 is known."""
    if not path.is_file():
        raise DataError(f"{path} is missing; the folder is incomplete: copy it again or train again")
    found = sha256(path)
    if found != digest:
        raise DataError(f"{path} is damaged: SHA-256 {found[:12]}… where {digest[:12]}… was written; copy it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is not a readable safetensors file: {error}") from error


def save_place(folder: Path, block: int, lead: int, tensors: dict[str, Tensor]) -> None:
    """Leave in a forecast's folder how far it has come, in place of what was there."""
    write_tensors(folder / PLACE, {"place": torch.tensor([block, lead]), **tensors})


def load_place(folder: Path) -> tuple[int, int, dict[str, Tensor]]:
    """Block, lead and tensors that `save_place` left; (0, 0, {}) where it left none."""
    path = folder / PLACE
    if not path.is_file():
        return 0, 0, {}
    tensors = read_tensors(path, sha256(path))
    block, lead = tensors.pop("place").tolist()
    return block, lead, tensors


def drop_place(folder: Path) -> None:
    """Remove it, and what a kill has left of one that was being written, once the forecast is complete."""
    for path in (folder / PLACE, *folder.glob(f".{PLACE}.*")):
        path.unlink(missing_ok=True)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object, or say which file is not one."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {path.parent} is not {what}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); copy it again or train again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {type(value).__name__} where a mapping was expected")
    return value


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, log_size: int
) -> Path:
    """Write the state after `step` optimiser steps; older checkpoints than the last two are removed."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    path = folder / f"step-{step:06d}"
    with explained(path):
        with atomic_folder(path, force=True) as partial:
            write_tensors(partial / TENSORS, tensors)
            atomic_write(partial / STATE, json.dumps({"step": step, "log_size": log_size}).encode())
            write_sums(partial, (STATE, TENSORS))
        for old in _checkpoints(folder)[:-KEEP]:
            shutil.rmtree(old)
    return path


def verify_checkpoint(path: Path) -> list[str]:
    """What is missing or changed in the folder of a checkpoint, one line each."""
    sums = read_sums(path)
    return differences(path, sums) if sums else [f"{SUMS} is missing"]


def load_checkpoint(
    folder: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, int] | None:
    """Restore the newest checkpoint that is whole; returns its step and log size, or None where there is none."""
    damage: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            state, tensors = _read(path)
        except DataError as error:
            damage.append(str(error))
            continue
        try:
            model.load_state_dict(_under("model.", tensors))
            ema.load_state_dict(_under("ema.", tensors))
            _restore_optimizer(optimizer, _under("optimizer.", tensors))
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"{path} is of another model than this one ({_line(error)}); --force starts over"
            ) from error
        return state["step"], state["log_size"]
    if damage:
        raise DataError(f"no checkpoint in {folder} is whole: {damage[0]}; --force starts over")
    return None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    sums = read_sums(path)
    if absent := {STATE, TENSORS} - sums.keys():
        raise DataError(f"{path}/{SUMS} lacks {', '.join(sorted(absent))}")
    for problem in differences(path, {STATE: sums[STATE]}):
        raise DataError(f"{path}/{problem}")
    state = read_json(path / STATE, "a checkpoint")
    if absent := {"step", "log_size"} - state.keys():
        raise DataError(f"{path}/{STATE} lacks {', '.join(sorted(absent))}")
    return state, read_tensors(path / TENSORS, sums[TENSORS])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checkpoints(folder: Path) -> list[Path]:
    """From oldest to newest."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))
