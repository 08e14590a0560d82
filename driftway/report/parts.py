"""What every page is made of: sections, panes and pictures, and the template that puts them into one HTML file.

The file holds its pictures and asks the network for nothing, which its content security policy also forbids. Every
string of the caller is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from driftway.report.plotting import encode
from driftway.report.styling import Style
from driftway.report.tables import Table
from driftway.storage import atomic_write
from driftway.version import __version__

MIME = {"svg": "image/svg+xml", "png": "image/png", "webp": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, its description, the name it is saved under, its size in CSS pixels, and a still."""

    source: str
    alt: str
    caption: str
    name: str
    width: int
    height: int
    still: str = ""


@dataclass(frozen=True)
class Pane:
    """What is seen at a time where a section offers a choice; `more` is folded away under its title."""

    label: str = ""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    style: Style | None = None
    more: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Section:
    """One heading of the page; two panes and more are chosen between, and the one numbered `first` is seen first."""

    identity: str
    title: str
    text: str
    panes: tuple[Pane, ...]
    choice: str = ""
    first: int = 0


def write_page(
    path: Path,
    *,
    title: str,
    lede: str,
    findings: Sequence[str],
    sections: Sequence[Section],
    run: Mapping[str, Any],
    glossary: Table,
) -> Path:
    """Write a page to `path`, complete or not at all, and return it; sections without panes are left out.

    lede, findings: sentences under the title; run: facts, of which mappings are folded away
    """
    page = _template().render(
        title=title,
        lede=lede,
        findings=findings,
        sections=[section for section in sections if section.panes],
        run=run,
        glossary=glossary,
        version=__version__,
    )
    atomic_write(path, page.encode())
    return path


def _template():  # type: ignore[no-untyped-def]
    environment = Environment(
        loader=PackageLoader("driftway.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fingerprint"] = _fingerprint
    return environment.get_template("report.html.j2")


def _fingerprint(script: str) -> str:
    """What a content security policy calls this script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()


def pictured(figure: Figure, name: str, alt: str, caption: str, limit: int, kind: str = "svg") -> Picture:
    """A figure as a picture of at most `limit` bytes."""
    kind, data = encoded(figure, kind, limit)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Picture(uri(kind, data), alt, caption, f"{name}.{kind}", width, height)


def encoded(figure: Figure, kind: str, limit: int) -> tuple[str, bytes]:
    """The figure as `kind`, or as the first smaller form that fits: PNG, then WebP of falling size."""
    data = encode(figure, kind)
    if len(data) > limit and kind != "png":
        kind, data = "png", encode(figure, "png")
    if len(data) <= limit:
        return kind, data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=85, method=3)
        if buffer.tell() <= limit or min(image.size) < 64:
            return "webp", buffer.getvalue()
        image = image.resize((image.width * 5 // 6, image.height * 5 // 6))


def uri(kind: str, data: bytes) -> str:
    """An image as text that a page can hold."""
    return f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"


def file_name(*parts: str) -> str:
    """What a picture of these is saved as, without its ending."""
    joined = "-".join(parts).casefold()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in joined).strip("-") or "figure"


def counted(count: int, noun: str) -> str:
    """A number of things in words."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
