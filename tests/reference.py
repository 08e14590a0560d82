"""exponax as an independent solver of the same equations, in double precision and on one thread."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

# XLA reads this when jax is first imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")


def exponax() -> Any:
    """The package; tests that ask for it are skipped where it is not installed."""
    module = pytest.importorskip("exponax")
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
    return module


def after(stepper: Any, state: Tensor, steps: int) -> Tensor:
    """The states (B, C, *S) that an exponax stepper reaches in so many steps."""
    import jax

    repeated = jax.jit(jax.vmap(exponax().repeat(stepper, steps)))
    return torch.from_numpy(jax.device_get(repeated(jax.numpy.asarray(state.numpy()))).copy())
