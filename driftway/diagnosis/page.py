"""The page of a diagnosis: its verdict, and what it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftway.diagnosis.examination import Diagnosis
from driftway.diagnosis.laws import Laws
from driftway.glossary import number
from driftway.metrics import Distance
from driftway.report.panels import name_all, name_curves, panels
from driftway.report.parts import Pane, Section, pictured, write_page
from driftway.report.styling import COLORS, INK, PALE, house_style
from driftway.report.tables import Cell, Table

FIGURE = 600_000  # bytes
SEEN = 1e-9  # of the largest power
KINDS = {"next": "the next states", "floor": "the other half", "noise": "Gaussian noise"}
DISTANCES = {"sliced_wasserstein": "sliced Wasserstein", "mmd": "MMD²", "classifier": "classifier's accuracy"}


def diagnosis_page(path: Path, found: Diagnosis, name: str) -> Path:
    """Write the page of a diagnosis to `path`, complete or not at all, and return it."""
    unit = "" if found.time_units in ("1", "") else f" {found.time_units}"
    return write_page(
        path,
        title=f"Diagnosis of {Path(name).name}",
        lede=f"{', '.join(found.fields)}: {found.trajectories} trajectories of {found.frames} frames, "
        f"{found.dt:g}{unit} apart. Nothing was trained.",
        findings=found.advice.verdict,
        sections=[
            Section("steps", "How far a step goes", "", (_steps(found, unit),)),
            Section("laws", "How far laws are apart", "", _laws(found, unit), "Against"),
            Section("spectra", "Spectra of states and steps", "", _spectra(found), "Field"),
            Section("cuts", "What compression would lose", "", (_cuts(found),)),
        ],
        run={"data": name, "recommended": {key: str(value) for key, value in found.advice.recommended.items()}},
        glossary=_glossary(),
    )


def _steps(found: Diagnosis, unit: str) -> Pane:
    time = np.array([step.time for step in found.steps])
    drawn = {"increment": COLORS[0], "linear": COLORS[1], "autocorrelation": COLORS[2]}
    with house_style():
        figure, (ax,) = panels(1, tuple(drawn))
        ax.axhline(2**0.5, color=PALE, linewidth=1)
        for name, color in drawn.items():
            estimates = np.array([getattr(step, name) for step in found.steps])
            ax.plot(time, estimates[:, 0], label=name, color=color, marker="o")
            ax.fill_between(time, estimates[:, 1], estimates[:, 2], color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel=f"time between states{unit and f' ({unit.strip()})'}", ylabel="in standard deviations")
        _by_octaves(ax, time)
        name_curves(ax)
    head = ("stride", "time", "increment", "autocorrelation", "left by the linear model", "flatness")
    rows = [
        (
            Cell(str(step.lag)),
            Cell(f"{step.time:g}"),
            *(Cell(number(e.value), _ends(e.low, e.high)) for e in (step.increment, step.autocorrelation, step.linear)),
            Cell(number(step.flatness)),
        )
        for step in found.steps
    ]
    notes = ("Small: 95 % bootstrap intervals over trajectories. The grey line is √2, for unrelated states.",)
    picture = pictured(figure, "steps", "Increment, autocorrelation and linear error against time", "", FIGURE)
    return Pane(pictures=(picture,), tables=(Table("Steps by stride", head, tuple(rows), notes),))


def _laws(found: Diagnosis, unit: str) -> tuple[Pane, ...]:
    if not found.laws:
        return ()
    first = found.laws[0].lag
    by_lag = sorted({law.lag: law for law in reversed(found.laws)}.values(), key=lambda law: law.lag)
    by_time = sorted({law.at: law for law in found.laws if law.lag == first}.values(), key=lambda law: law.at)
    return (
        _law_pane("lag", by_lag, [law.time for law in by_lag], f"time between states{unit}"),
        _law_pane("time", by_time, [law.at for law in by_time], f"time of the first state{unit}"),
    )


def _law_pane(label: str, laws: Sequence[Laws], x: Sequence[float], xlabel: str) -> Pane:
    with house_style():
        figure, axes = panels(len(DISTANCES))
        for (distance, name), ax in zip(DISTANCES.items(), axes, strict=True):
            for (kind, shown), color in zip(KINDS.items(), COLORS, strict=False):
                values = [getattr(getattr(law, kind), distance) for law in laws]
                ax.plot(x, [_value(value) for value in values], label=f"to {shown}", color=color, marker="o")
            bands = [getattr(law.next, distance) for law in laws]
            if isinstance(bands[0], Distance):
                ax.fill_between(x, [b.low for b in bands], [b.high for b in bands], color=PALE, alpha=0.7, linewidth=0)
            ax.set(xlabel=xlabel, ylabel=name)
            if label == "lag":
                _by_octaves(ax, np.array(x))
        name_all(figure, axes)
    note = (
        "From the law of states at a time to three others, of other trajectories. Grey: 95 % of what chance gives "
        "where two laws are one. These are distances of laws; how far one state is from its own future is above."
    )
    return Pane(
        label, (pictured(figure, f"laws-{label}", f"Distances between laws by {label}", "", FIGURE),), notes=(note,)
    )


def _spectra(found: Diagnosis) -> tuple[Pane, ...]:
    return tuple(Pane(name, (pictured(_spectrum(found, k), f"spectrum-{name}", f"Spectra of {name}", "", FIGURE),))
                 for k, name in enumerate(found.fields))  # fmt: skip


def _spectrum(found: Diagnosis, field: int) -> Figure:
    with house_style():
        figure, (ax,) = panels(1, ("step of 64",))
        state = found.spectra.state[field].numpy()[1:]
        waves = np.arange(1, len(state) + 1)[state > SEEN * state.max()]  # waves that the data do not hold say nothing
        ax.loglog(waves, state[waves - 1], label="state", color=INK)
        for (lag, power), color in zip(found.spectra.steps.items(), [*COLORS, PALE], strict=False):
            ax.loglog(waves, power[field].numpy()[waves], label=f"step of {lag}", color=color)
        ax.set(xlabel="waves over the longest side", ylabel="power (variances of the field)")
        name_curves(ax)
    return figure


def _cuts(found: Diagnosis) -> Pane:
    rows = tuple((Cell(f"{cut.factor} ×"), Cell(number(cut.lost))) for cut in found.cuts)
    note = "Where states have structure, an autoencoder of as many numbers loses less: this is what it has to beat."
    return Pane(tables=(Table("Keeping the largest waves alone", ("fewer numbers", "lost"), rows, (note,)),))


def _glossary() -> Table:
    texts = {
        "increment": "√(⟨|u(t+Δ) − u(t)|²⟩ / ⟨|u − ū|²⟩): of one state and its own future",
        "autocorrelation": "⟨(u(t) − ū)·(u(t+Δ) − ū)⟩ / ⟨|u − ū|²⟩",
        "left by the linear model": "the same as the increment, of the forecast by a linear model of each wavenumber "
        "that was fitted to half of the trajectories, on the others",
        "flatness": "⟨P⟩²/⟨P²⟩ of the power P of each wave in what a step leaves open: the share of waves it fills",
        "sliced Wasserstein": "√ of the mean squared transport cost over directions, of states along their first "
        "principal components, over their spread there",
        "MMD²": "unbiased squared maximum mean discrepancy, Gaussian kernel, median bandwidth",
        "classifier's accuracy": "of a small network that tells unseen samples of two laws apart: ½ where they are one",
        "lost": "√⟨|u − u_cut|²⟩ in standard deviations",
    }
    rows = tuple((Cell(name), Cell(text)) for name, text in texts.items())
    return Table("Quantities of this page", ("quantity", "meaning"), rows, prose=True)


def _by_octaves(ax: Axes, x: np.ndarray) -> None:
    if len(x) > 1:
        ax.set_xscale("log", base=2)
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()


def _value(distance: float | Distance) -> float:
    return distance.value if isinstance(distance, Distance) else distance


def _ends(low: float, high: float) -> str:
    return "" if low != low else f"{number(low)}–{number(high)}"
