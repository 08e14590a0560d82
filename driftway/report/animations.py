"""Animations of a forecast beside what happened, as WebP: pictures, or curves where there is one axis."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from driftway.report.coasts import coastline
from driftway.report.pictures import Case, bars, cell, draw_picture, field_scale, scales_of, shown, views
from driftway.report.styling import evenly, house_style, plain

FRAMES, SECONDS = 60, 6.0
QUALITY = 80


def animation(case: Case, method: str, field: str | None = None, limit: int = 2_000_000) -> bytes:
    """Truth, ensemble mean, one member and error side by side through the lead times: an animated WebP.

    field: the first by default
    limit: bytes it may have; quality, then size, give way
    """
    field = field or case.fields[0]
    rows = {name: values for name, values in views(case, method, field).items() if name != "member 2"}
    leads = evenly(len(case.times()), FRAMES)
    draw = _line_frames if case.happened(field).ndim == 2 else _picture_frames
    with house_style():
        frames = list(draw(case, rows, field, leads))
    return _webp(frames, limit)


def _picture_frames(
    case: Case, rows: Mapping[str, np.ndarray], field: str, leads: Sequence[int]
) -> Iterator[Image.Image]:
    scales = scales_of(rows)
    height, width = cell(case, field, 1.9)
    figure = Figure(figsize=(width * len(rows) + 1.6, height + 0.65), layout="compressed", dpi=100)
    axes = list(figure.subplots(1, len(rows)))
    images = [
        draw_picture(ax, rows[name][0], scales[name], interpolation="bilinear", aspect=case.aspect(field))
        for name, ax in zip(rows, axes, strict=True)
    ]
    for name, ax in zip(rows, axes, strict=True):
        ax.set_title(plain(name))
    bars(figure, scales, axes, case.truth[field])
    land = case.coast(field)
    rows_of, columns_of = (np.arange(size) for size in case.happened(field).shape[1:])
    coasts = [] if land is None else [coastline(ax, rows_of, columns_of, land) for ax in axes]

    def show(lead: int) -> None:
        for image, values in zip(images, rows.values(), strict=True):
            image.set_data(shown(values[lead]))

    return _frames(figure, [*images, *coasts], show, case.times(), leads)


def _line_frames(case: Case, rows: Mapping[str, np.ndarray], field: str, leads: Sequence[int]) -> Iterator[Image.Image]:
    scale, colors = field_scale(rows["truth"]), ("black", "#0072B2", "#D55E00")
    figure = Figure(figsize=(7.2, 3.0), layout="constrained", dpi=100)
    ax = figure.subplots()
    pad = 0.15 * (scale.high - scale.low)
    dim = next(str(dim) for dim in case.truth[field].dims if dim != "lead_time")
    ax.set(ylim=(scale.low - pad, scale.high + pad), xlabel=plain(dim), ylabel=plain(field))
    names = list(rows)[:-1]
    # xarray gives an axis without coordinates its indices
    axis = case.truth[field][dim].values
    lines = [
        ax.plot(axis, rows[name][0], color=c, label=plain(name))[0] for name, c in zip(names, colors, strict=False)
    ]
    figure.legend(loc="outside right center")

    def show(lead: int) -> None:
        for line, name in zip(lines, names, strict=True):
            line.set_ydata(rows[name][lead])

    return _frames(figure, lines, show, case.times(), leads)


def _frames(
    figure: Figure,
    artists: Sequence[Any],
    show: Callable[[int], None],
    times: Sequence[str],
    leads: Sequence[int],
) -> Iterator[Image.Image]:
    """Redraws only the artists that change: the rest of the figure is drawn once."""
    label = figure.suptitle(f"lead {times[-1]}", fontsize=10)
    moving = [*artists, label]
    for artist in moving:
        artist.set_animated(True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for lead in leads:
        canvas.restore_region(background)
        show(lead)
        label.set_text(f"lead {times[lead]}")
        for artist in moving:
            figure.draw_artist(artist)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _webp(frames: Sequence[Image.Image], limit: int) -> bytes:
    milliseconds = int(np.clip(1000 * SECONDS / len(frames), 80, 500))
    pauses = [milliseconds] * (len(frames) - 1) + [1500]
    quality = QUALITY
    while True:
        buffer = io.BytesIO()
        options = {"duration": pauses, "loop": 0, "quality": quality, "method": 2}
        frames[0].save(buffer, "WEBP", save_all=True, append_images=list(frames[1:]), **options)
        if buffer.tell() <= limit or min(frames[0].size) < 16:
            return buffer.getvalue()
        quality = QUALITY // 2
        shrink = 0.9 if len(buffer.getvalue()) < 1.5 * limit else 0.8
        frames = [frame.resize((round(frame.width * shrink), round(frame.height * shrink))) for frame in frames]
