"""Which states of trajectories forecasts start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftway.data.trajectories import Trajectories
from driftway.errors import ConfigError


def start_frames(frames: int, span: int, starts: int, first: int = 0) -> list[int]:
    """`starts` different frames from `first` on, evenly spaced, each with `span` more behind it; `first` if just one.

    Raises ConfigError where there are not as many.
    """
    if starts == 1:
        return [first]
    last = frames - 1 - span
    if starts > last + 1 - first:
        raise ConfigError(
            f"{starts} starts from frame {first} on with {span} frames ahead do not fit into {frames}: "
            f"give at most {max(last + 1 - first, 1)}"
        )
    return np.linspace(first, last, starts).astype(int).tolist()


def begun(part: Trajectories, frames: Sequence[int]) -> Trajectories:
    """The trajectories begun at each of some frames, as long as the last of these leaves.

    Raises ConfigError for a frame that there is not.
    """
    outside = next((frame for frame in frames if not 0 <= frame < part.shape[1]), None)
    if outside is not None:
        raise ConfigError(f"start {outside} lies outside the {part.shape[1]} frames of the data")
    return part.windows(frames, part.shape[1] - max(frames))


def start_names(split: str, trajectories: int, frames: Sequence[int]) -> list[str]:
    """What each of the trajectories that `begun` gives is called; noise is keyed by it."""
    return [f"{split} {row}, frame {frame}" for frame in frames for row in range(trajectories)]


def first_states(part: Trajectories) -> np.ndarray:
    """The first frame of each trajectory (N, C, *S)."""
    return np.asarray(part.window(0, 1).states)[:, 0]
