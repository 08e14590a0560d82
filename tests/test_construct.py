"""A description makes the component that its table holds under the name, and nothing else; mistakes name their line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway.build import CODECS, COMPONENTS, NETWORKS, NOISES, SAMPLERS, STEPPERS, build_sampler
from driftway.config import check, construct, load_yaml, parse_value
from driftway.errors import ConfigError


class Shape:
    """A component of its own, for these tests."""


@dataclass(frozen=True)
class Circle(Shape):
    radius: float = 1.0


@dataclass(frozen=True)
class Square(Shape):
    side: float
    corner: Shape | None = None


@dataclass(frozen=True)
class Pen:
    width: float = 0.5
    colour: Literal["black", "red"] = "black"


class Drawing:
    def __init__(
        self,
        canvas: str,
        *,
        shape: Shape = Circle(),
        pen: Pen = Pen(),
        sizes: tuple[int, ...] = (1,),
        copies: int = 1,
        scale: float | None = None,
        framed: bool = False,
        title: str = "",
        anything: Any = None,
    ):
        self.values = (canvas, shape, pen, sizes, copies, scale, framed, title, anything)
        if copies < 1:
            raise ValueError(f"copies must be at least 1, got {copies}")


SHAPES: dict[str, type[Shape]] = {"circle": Circle, "square": Square}
DRAWINGS = {"drawing": Drawing}
NESTED: Mapping[type, Mapping[str, Any]] = {Shape: SHAPES}


def draw(**settings: Any) -> tuple[Any, ...]:
    return construct(DRAWINGS, {"type": "drawing", **settings}, nested=NESTED, canvas="wall").values


def message(table: Mapping[str, Any], spec: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        construct(table, spec, nested=NESTED, **more)
    return str(caught.value)


def test_a_name_alone_is_a_component_without_settings():
    assert construct(SHAPES, "circle") == construct(SHAPES, {"type": "circle"}) == Circle()


def test_settings_reach_the_constructor_with_the_types_of_its_annotations():
    values = draw(shape={"type": "square", "side": 2, "corner": "circle"}, sizes=[3, 4], copies=2, scale=3, framed=True)
    assert values == ("wall", Square(2.0, Circle()), Pen(), (3, 4), 2, 3.0, True, "", None)
    assert isinstance(values[1].side, float) and isinstance(values[5], float)


def test_a_dataclass_that_is_in_no_table_is_given_by_its_settings():
    assert draw(pen={"width": 2})[2] == Pen(2.0)
    assert "unknown key 'widht' of pen; did you mean 'width'?" in message(
        DRAWINGS, {"type": "drawing", "pen": {"widht": 2}}, canvas="wall"
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("copies", "3"),
        ("copies", 3.0),
        ("copies", True),
        ("copies", None),
        ("scale", "0.1"),
        ("scale", True),
        ("scale", float("nan")),
        ("scale", float("inf")),
        ("framed", 1),
        ("framed", "yes"),
        ("title", 3),
        ("sizes", 3),
        ("sizes", [1, 2.5]),
        ("sizes", "12"),
        ("shape", 3),
        ("shape", ["circle"]),
        ("pen", "thick"),
        ("pen", {"colour": "blue"}),
    ],
)
def test_nothing_is_converted(setting, value):
    found = message(DRAWINGS, {"type": "drawing", setting: value}, canvas="wall")
    assert f"'{setting}' should be" in found or "'colour' should be" in found


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("cirle", "unknown type 'cirle'; did you mean 'circle'? valid: circle, square"),
        ({"type": "os.system"}, "unknown type 'os.system'; valid: circle, square"),
        ({"type": "square"}, "square needs 'side'"),
        ({"type": "square", "sied": 2, "side": 1}, "unknown key 'sied' of square; did you mean 'side'?"),
        ({"radius": 2}, "'type' is missing: the name of the component"),
        ({"type": ["circle"]}, "unknown type ['circle']"),
        ({"type": "circle", "_target_": "os.system"}, "unknown key '_target_' of circle"),
        ({"type": "square", "side": 1, "corner": "sphere"}, "unknown type 'sphere'"),
        (3, "should be a name or a mapping with 'type', got 3"),
    ],
)
def test_a_description_that_fits_nothing_is_an_error_with_the_valid_names(spec, expected):
    assert expected in message(SHAPES, spec)


def test_what_the_program_supplies_cannot_be_set():
    assert "'canvas' of drawing is set by the program; remove it" in message(
        DRAWINGS, {"type": "drawing", "canvas": "floor"}, canvas="wall"
    )


def test_a_component_that_does_not_take_what_the_program_supplies_is_an_error():
    assert "circle does not take 'canvas'" in message(SHAPES, "circle", canvas="wall")


def test_a_refusal_of_the_constructor_is_an_error_with_its_settings():
    found = message(DRAWINGS, {"type": "drawing", "copies": 0}, canvas="wall")
    assert found == "drawing cannot be made with {'copies': 0}: copies must be at least 1, got 0"


def test_every_error_names_file_line_and_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("stepper:\n  type: square\n  side: 1\n  corner:\n    type: circle\n    radius: wide\n")
    found = message(SHAPES, load_yaml(path)["stepper"])
    assert found.startswith(f"{path}:6: stepper.corner.radius: 'radius' should be a valid number, got 'wide'")


def test_check_finds_what_construct_would_without_what_is_yet_to_come():
    check(DRAWINGS, "drawing", nested=NESTED, given=("canvas",))
    with pytest.raises(ConfigError, match="unknown key 'canvsa' of drawing"):
        check(DRAWINGS, {"type": "drawing", "canvsa": 1}, nested=NESTED, given=("canvas",))
    with pytest.raises(ConfigError, match="did you mean 'canvas'"):
        check(DRAWINGS, {"type": "drawing", "canvsa": 1}, nested=NESTED, given=("canvas",), besides=("canvas",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5) | st.sampled_from(list(SHAPES)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "side", "radius", "corner", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(JSON)
def test_any_plain_data_make_a_shape_or_a_config_error(spec):
    try:
        assert isinstance(construct(SHAPES, spec, nested=NESTED), Shape)
    except ConfigError as error:
        assert "\n" not in str(error)


# --- the package's own tables ------------------------------------------------------------------------------------

TABLES = {**{base.__name__: table for base, table in COMPONENTS.items()}, "Noise": NOISES, "Codec": CODECS}
TABLES |= {"Network": NETWORKS, "Stepper": STEPPERS}
NAMED = [(table, name) for table, entries in TABLES.items() for name in entries]
REQUIRED = {"residual": {"path": "variance_preserving"}, "grid": {"points": 4}, "solver": {"preset": "kolmogorov"}}
SUPPLIED = {"channels", "inputs", "outputs", "boundary", "parameters", "network", "noise", "guess", "physics"}
SUPPLIED |= {"fields", "axes", "known_axes", "names"}


@pytest.mark.parametrize(("table", "name"), NAMED)
def test_every_default_of_a_component_can_be_written_in_a_configuration(table, name):
    """A component described by all its defaults is the one made without settings: no default is Python only."""
    factory, required = TABLES[table][name], REQUIRED.get(name, {})
    parameters = inspect.signature(factory).parameters
    defaults = {p.name: p.default for p in parameters.values() if p.name not in SUPPLIED and _plain(p.default)}
    written = {key: parse_value(_written(value), "default", key) for key, value in defaults.items()}
    given = [p for p in parameters if p in SUPPLIED]
    check(TABLES[table], {"type": name, **written, **required}, nested=COMPONENTS, given=given)
    if is_dataclass(factory):
        made = construct(TABLES[table], {"type": name, **written, **required}, nested=COMPONENTS)
        assert made == construct(TABLES[table], {"type": name, **required}, nested=COMPONENTS)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | tuple)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_description_of_a_sampler_gives_each_of_its_numbers(name):
    sampler = build_sampler({"type": name, "steps": 7, "grid": {"type": "power"}})
    assert type(sampler) is SAMPLERS[name] and sampler.steps == 7
    assert {f.name for f in fields(sampler)} >= {"steps", "grid"}


def test_a_class_of_ones_own_comes_in_by_python(monkeypatch):
    @dataclass(frozen=True)
    class Halved(SAMPLERS["euler"]):  # type: ignore[misc]
        half: float = 0.5

    monkeypatch.setitem(SAMPLERS, "halved", Halved)
    assert build_sampler({"type": "halved", "half": 0.25}) == Halved(half=0.25)


def test_the_package_evaluates_and_unpickles_nothing():
    package = Path(inspect.getfile(construct)).parents[1]
    words = ("eval(", "exec(", "pickle.load", "import_module", "__import__", "weights_only=False", "yaml.load(")
    for path in package.rglob("*.py"):
        text = path.read_text().replace(".eval()", "")
        if path == package / "lazy.py":  # which looks public names up in a table of the package's own modules
            text = text.replace("import_module", "")
        found = [word for word in words if word in text]
        assert not found, f"{path} has {found}"
