"""How physical parameters enter networks: as logarithms or as they are, less their mean, in standard deviations.

Data, emulators and forecasts hold parameters in physical units; each network scales them where it takes them in, by
numbers that were fitted to the training split and are saved with its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from driftway.data.cf import on_earth
from driftway.data.trajectories import Trajectories
from driftway.data.weather_units import contradiction
from driftway.errors import ConfigError, DataError
from driftway.networks.layers import Scaling

DECADE = 10.0  # largest over smallest value beyond which a positive parameter enters as its logarithm


@dataclass(frozen=True)
class Parameter:
    """A parameter as a network sees it: (p − mean)/std, or (ln p − mean)/std with the scale 'log'.

    low, high: the range in the training split, in physical units
    """

    name: str
    scale: Literal["log", "linear"]
    mean: float
    std: float
    low: float
    high: float

    def check(self, values: np.ndarray, rows: Sequence[object] = ()) -> None:
        """Raise DataError for a value that is missing, infinite or, as a logarithm, not positive; `rows` name them."""
        wrong = ~np.isfinite(values) | ((values <= 0) if self.scale == "log" else False)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            wanted = "positive, since it enters as its logarithm" if self.scale == "log" else "a finite number"
            raise DataError(
                f"parameter '{self.name}' is {values[row]:g} in trajectory {rows[row] if rows else row} and must be "
                f"{wanted}: correct it, or leave the trajectory out"
            )

    def beyond(self, values: np.ndarray) -> str:
        """What to say where values lie outside the range that was trained at; nothing where none does."""
        slack = 1e-5 * max(abs(self.low), abs(self.high))  # parameters reach an emulator in single precision
        outside = values[(values < self.low - slack) | (values > self.high + slack)]
        if not len(outside):
            return ""
        found = " to ".join(f"{value:g}" for value in dict.fromkeys((float(outside.min()), float(outside.max()))))
        return f"{self.name} = {found} lies outside the {self.low:g} to {self.high:g} that it was trained at"


def fitted_parameters(data: Trajectories, scales: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
    """Every parameter of a data set, in the order in which a step knows them, scaled by its training split.

    Those that tell the date are waves from −1 to 1 and stay as they are.

    scales: name → 'log' or 'linear'; a parameter that is not named enters as its logarithm where it is positive in the
        whole data set and its largest value in the training split is more than ten times its smallest

    Raises ConfigError for a name that the data lack, and DataError for a value of any split that is missing or, as a
    logarithm, not positive.
    """
    declared = dict(scales or {})
    unknown = next((name for name in declared if name not in data.parameters), None)
    if unknown is not None:
        names = ", ".join(sorted(data.parameters)) or "none"
        raise ConfigError(f"data.parameters: the data have no parameter '{unknown}'; they have {names}")
    train = data.split("train") if data.parameters else data
    fitted = [
        _fitted(name, np.asarray(data.parameters[name], float), np.asarray(train.parameters[name], float), declared)
        for name in sorted(data.parameters)
    ]
    return (*fitted, *(Parameter(name, "linear", 0.0, 1.0, -1.0, 1.0) for name in data.date_names))


def _fitted(name: str, every: np.ndarray, values: np.ndarray, declared: Mapping[str, str]) -> Parameter:
    wide = bool((every > 0).all()) and values.max() > DECADE * values.min()
    scale = declared.get(name, "log" if wide else "linear")
    found = Parameter(name, "log" if scale == "log" else "linear", 0.0, 1.0, float(values.min()), float(values.max()))
    found.check(every)
    seen = np.log(values) if found.scale == "log" else values
    std = float(seen.std())
    varies = std > 1e-6 * max(abs(float(seen.mean())), 1e-30)
    return Parameter(name, found.scale, float(seen.mean()), std if varies else 1.0, found.low, found.high)


def field_scales(data: Trajectories) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each known field over points and frames, in the order in which a step knows them.

    A field without variation has the standard deviation 1. Raises DataError for a field that is not finite, and
    where on latitudes and longitudes its mean is not of what its name says.
    """
    arrays = {**data.static, **data.forcing}
    earth = on_earth([axis.units for axis in data.known_axes or data.axes])
    found = [_field_scale(name, np.asarray(arrays[name]), earth) for name in data.field_names]
    return [mean for mean, _ in found], [std for _, std in found]


def _field_scale(name: str, values: np.ndarray, earth: bool) -> tuple[float, float]:
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not np.isfinite(mean + std):
        raise DataError(f"the known field '{name}' holds values that are not finite: fill them")
    if said := contradiction(name, None, mean) if earth else "":
        raise DataError(said)
    return mean, std if std > 1e-6 * max(abs(mean), 1e-30) else 1.0


def scale_parameters(network: nn.Module, parameters: Sequence[Parameter]) -> None:
    """Make a network that was built for these parameters, or the first of them, take them in physical units."""
    for module in network.modules():
        if isinstance(module, Scaling):
            own = parameters[: len(module.mean)]
            module.fit([p.scale == "log" for p in own], [p.mean for p in own], [p.std for p in own])


def described(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """The parameters as plain data, for an emulator's description."""
    return [asdict(parameter) for parameter in parameters]


def checked_parameters(known: Sequence[Mapping[str, Any]], values: Tensor | None) -> list[str]:
    """What is to be said of the parameters (B, P) of some states: a sentence for each that is beyond its training.

    known: as `described` gave them. Raises DataError for a value that is missing or, as a logarithm, not positive.
    """
    if values is None:
        return []
    columns = values.detach().cpu().double().numpy().T
    said = []
    for about, column in zip(known, columns, strict=False):
        parameter = Parameter(**about)
        parameter.check(column)
        said.append(parameter.beyond(column))
    return [sentence for sentence in said if sentence]
