"""The report in the eyes of a browser: self-contained, escaped, described, small, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from driftway.report import page as report
from driftway.report import plotting
from driftway.report.page import build
from driftway.report.parts import encoded
from tests.report_example import METHODS, Method, Size, study

NASTY = "<script>alert(\"1\")</script> & '$x$' {{ 7*7 }}"
TINY = Size(
    grid=8,
    leads=3,
    members=3,
    trajectories=8,
    fields=("vorticity",),
    methods={
        NASTY: Method(),
        "bad": Method(diverges=True, run="vp"),
        **{m: METHODS[m] for m in ("FNO", "persistence")},
    },
)
VOID = {"meta", "img", "input", "br", "line"}


class Page(HTMLParser):
    """Tags with their attributes, text by tag, and whether every tag is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self) -> str:
        return " ".join(" ".join(parts) for tag, parts in self.texts.items() if tag not in ("script", "style"))


def written(folder: Path, **changes: Any) -> str:
    return build(folder / "report.html", **{**study(TINY), **changes}).read_text()


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of a small study whose strings are as bad as they get."""
    strings = {"title": NASTY, "findings": [NASTY], "run": {NASTY: [NASTY], "more": {"key": NASTY}}}
    return written(tmp_path_factory.mktemp("report"), **strings)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


# --- safe and self-contained ---------------------------------------------------------------------------------------


def test_nothing_is_asked_of_the_network(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data-still", "action", "xlink:href"):
            value = attributes.get(key, "data:")
            assert value.startswith(("data:", "#")), f"{tag} {key}={value[:80]}"
    assert not page.all("link") and not page.all("iframe") and not page.all("object")
    assert "url(" not in html and "@import" not in html


def test_the_content_security_policy_allows_exactly_the_script_and_the_style_of_the_page(html: str, page: Page) -> None:
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes or key.startswith("on") for _, attributes in page.tags for key in attributes)


def test_strings_of_the_caller_are_shown_and_never_run(html: str, page: Page) -> None:
    assert len(page.all("script")) == 1 and "alert(" not in page.texts["script"][0]
    assert page.texts["title"] == [NASTY] and page.texts["h1"] == [NASTY]
    assert NASTY in page.texts["li"] and NASTY in page.texts["dt"] and NASTY in page.texts["code"]
    assert any(NASTY in text for text in page.texts["label"] + page.texts["th"])
    assert "49" not in page.texts["h1"][0]


def test_tags_are_closed_in_order_and_identities_are_unique(page: Page) -> None:
    assert page.open == []
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {a["href"][1:] for a in page.all("a")} | {label["for"] for label in page.all("label")}
    assert targets <= set(identities)


# --- pictures ------------------------------------------------------------------------------------------------------


def picture(source: str) -> tuple[str, bytes]:
    kind, data = re.fullmatch(r"data:image/([a-z+]+);base64,(.*)", source).groups()  # type: ignore[union-attr]
    return kind, base64.b64decode(data)


def test_every_picture_can_be_read_and_says_in_words_what_it_shows(page: Page) -> None:
    images = page.all("img")
    assert len(images) > 10 and all(len(image["alt"]) > 30 for image in images)
    for image in images:
        kind, data = picture(image["src"])
        assert int(image["width"]) > 0 and int(image["height"]) > 0
        if kind == "svg+xml":
            assert data.startswith(b"<?xml") and b"<script" not in data and b"http-equiv" not in data
        else:
            Image.open(io.BytesIO(data)).load()


def test_forecasts_are_shown_moving_with_a_still_for_those_who_want_no_motion(page: Page) -> None:
    moving = [image for image in page.all("img") if "data-still" in image]
    assert len(moving) == 3
    for image in moving:
        with Image.open(io.BytesIO(picture(image["src"])[1])) as animation:
            assert getattr(animation, "n_frames", 1) == TINY.leads
        with Image.open(io.BytesIO(picture(image["data-still"])[1])) as still:
            assert getattr(still, "n_frames", 1) == 1 and still.size == animation.size


def test_the_best_forecast_is_seen_first(page: Page) -> None:
    tabs = [a for a in page.all("input") if a["name"] == "forecast-1-choice"]
    assert [("checked" in tab) for tab in tabs] == [True, False, False]
    assert all(
        sum("checked" in a for a in page.all("input") if a["name"] == name) == 1
        for name in {a["name"] for a in page.all("input")}
    )


def test_pictures_that_are_too_large_give_way_in_quality() -> None:
    figure = plotting.Figure(figsize=(4, 4))
    figure.subplots().imshow(np.random.default_rng(0).random((200, 200)))
    kind, data = encoded(figure, "svg", 10_000_000)
    assert kind == "svg" and len(data) > 60_000
    kind, small = encoded(figure, "svg", 20_000)
    assert kind == "webp" and len(small) <= 20_000
    assert Image.open(io.BytesIO(small)).size[0] >= 64


def test_the_budget_of_all_pictures_stays_below_ten_megabytes(page: Page, html: str) -> None:
    assert (report.ANIMATIONS + report.PANELS + report.FIGURES) * 4 / 3 < 9.5e6
    figures = [image for image in page.all("img") if picture(image["src"])[0] == "svg+xml"]
    measured = 2  # kinetic energy and enstrophy follow from a vorticity
    assert len(figures) <= report.FIXED_FIGURES + 4 * len(TINY.fields) + measured
    assert len(html) < 3e6


# --- content -------------------------------------------------------------------------------------------------------


def test_sections_stand_in_order_and_say_what_was_run(page: Page) -> None:
    sections = [a["id"] for a in page.all("section")]
    assert sections == [
        "scores",
        "forecast-1",
        "errors",
        "crps",
        "spread",
        "spectra",
        "ranks",
        "physics",
        "calls",
        "training",
        "run",
        "glossary",
    ]
    assert (
        "3 forecasts of vorticity (2 ensembles of up to 3 members), from 8 initial states, 3 lead times" in page.text()
    )


def test_references_are_set_apart_in_tables(page: Page) -> None:
    rows = [a for a in page.all("tr") if a.get("class") == "reference"]
    assert rows
    assert "diverged, of 8" in page.text()


def test_equal_studies_give_equal_reports_and_are_not_changed(html: str, tmp_path: Path) -> None:
    strings = {"title": NASTY, "findings": [NASTY], "run": {NASTY: [NASTY], "more": {"key": NASTY}}}
    scores = study(TINY)["scores"]
    assert written(tmp_path, **strings, scores=scores) == html
    xr.testing.assert_identical(scores, study(TINY)["scores"])


@pytest.mark.parametrize("kind", ["one member", "one axis", "all diverge", "no forecasts"])
def test_studies_of_every_kind_have_a_report(kind: str, tmp_path: Path) -> None:
    base = replace(TINY, methods={"a": Method()})
    size = {
        "one member": replace(base, members=1, trajectories=2, leads=1),
        "one axis": replace(base, space=1, grid=16),
        "all diverge": replace(base, methods={"a": Method(diverges=True)}),
        "no forecasts": replace(base, methods={"persistence": METHODS["persistence"]}),
    }[kind]
    page = Page(written(tmp_path, **study(size)))
    text = page.text()
    if kind == "one member":
        assert report.NO_ENSEMBLE in text and "bootstrap" not in text
    if kind == "all diverge":
        assert "no forecast stayed finite" in text
    assert not re.search(r"\b(nan|inf)\b", text.casefold())


def test_several_fields_have_tabs_of_their_own(tmp_path: Path) -> None:
    size = replace(TINY, fields=("vorticity", "temperature"), methods={"a": Method()})
    page = Page(written(tmp_path, **{**study(size), "cases": []}))
    names = {a["name"] for a in page.all("input")}
    assert {"scores-choice", "spectra-choice", "ranks-choice"} <= names and "forecast-1-choice" not in names
    assert "fair CRPS [1/s]" in page.text() and "fair CRPS [K]" in page.text()
