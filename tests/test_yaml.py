"""YAML is read as plain data with one reading, every mistake is found with its file and line, nothing is executed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway.config import dump_yaml, load_yaml, override, parse_value
from driftway.config.yaml import LARGEST, locate, place_of
from driftway.errors import ConfigError


def written(folder: Path, text: str | bytes, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    """The one line that loading a file ends in; it starts with the file."""
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


# --- scalars -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5),
        ("1E3", 1000.0),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-7", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("5e-5x", "5e-5x"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("=", "="),
        ("[1, 2.0, no]", [1, 2.0, "no"]),
        ("{type: euler, steps: 4}", {"type": "euler", "steps": 4}),
        ("# nothing but this", None),
    ],
)
def test_a_scalar_has_the_type_it_looks_like(text, value):
    found = parse_value(text, "--option")
    assert found == value
    assert isinstance(found, str) if isinstance(value, str) else type(found) is type(value)


def test_infinities_and_nan_are_floats():
    assert parse_value("-.inf", "--option") == -math.inf
    assert math.isnan(parse_value(".nan", "--option"))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TRAPS = (
    "no",
    "5e-5",
    "~",
    "null",
    "1:30",
    "",
    " x ",
    "a: b",
    "- a",
    "#",
    "!!int",
    "'",
    '"',
    "\n",
    "é",
    "0x1f",
    "<<",
    "=",
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=8), PLAIN | st.sampled_from(TRAPS), max_size=4))
def test_what_is_dumped_reads_back_as_an_equal_value(tmp_path_factory, values):
    text = dump_yaml({"values": values})
    path = written(tmp_path_factory.getbasetemp(), text, "round_trip.yaml")
    assert _typed(load_yaml(path)["values"]) == _typed(values)


def _typed(value: Any) -> Any:
    """A value with the types of its parts, since True == 1 == 1.0."""
    if isinstance(value, dict):
        return {str(key): _typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_typed(entry) for entry in value]
    return (str, str(value)) if isinstance(value, str) else (type(value), value)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_duplicate_key_is_an_error_that_names_both_lines(tmp_path):
    path = written(tmp_path, "training:\n  steps: 3\n  batch: 4\n  steps: 5\n")
    assert refusal(path) == ":4: training.steps: duplicate key; first in line 2; remove one of the two"


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {canary}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{canary}']]",
        "!!python/object/new:os.system ['touch {canary}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!env HOME",
        "!!binary aGVsbG8=",
        "!!set {{a, b}}",
        "!include other.yaml",
        "!<tag:example.org,2026:x> 1",
    ],
)
def test_a_tag_is_refused_and_nothing_is_executed(tmp_path, value):
    canary = tmp_path / "canary"
    path = written(tmp_path, f"name: x\nstepper: {value.format(canary=canary)}\n")
    message = refusal(path)
    assert message.startswith(":2: stepper") and "is refused: a configuration is plain data" in message
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x\n", ":1: a: anchors and aliases are not supported"),
        ("b: {<<: {a: 1}}\nc: *x\n", "undefined alias"),
        ("%YAML 1.1\n---\na: no\n", ":1: YAML directives are not supported"),
        ("a: 1\n---\nb: 2\n", ":2: is not valid YAML: but found another document"),
        ("a: 1\n\tb: 2\n", ":2: a tab indents this line; use spaces"),
        ("a:\n  b: 1\n\t  c: 2\n", ":3: a tab indents this line; use spaces"),
        ("a: [1, 2\nb: 3\n", ":2: is not valid YAML"),
        ("a: 'x\n", "is not valid YAML"),
        ("a: 1\nb: \x07\n", ":2: is not YAML: it holds a character that text files do not"),
        ("1: 2\n", ":1: '1' is no key; keys are strings, quote it"),
        ("a:\n  true: 2\n", ":2: a: 'true' is no key; keys are strings, quote it"),
        ("[a]: 2\n", ":1: a list or mapping is no key"),
        ("a: !!int x\n", ":1: a: 'x' is not a int"),
        ("", ":1: is empty; a configuration is a mapping"),
        ("- a\n- b\n", ":1: holds ['a', 'b']; a configuration is a mapping"),
        ("just words\n", ":1: holds 'just words'; a configuration is a mapping"),
        ("{a: " * 1000, "is nested too deeply"),
    ],
)
def test_what_is_not_one_plain_mapping_is_an_error_with_its_line(tmp_path, text, message):
    assert message in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: 1\n".encode("utf-8-sig"), ":1: starts with a byte-order mark; save the file as UTF-8 without one"),
        ("a: 1\n".encode("utf-16"), ":1: starts with a byte-order mark"),
        ("a: 1\nname: caf\u00e9\n".encode("latin-1"), ":2: is not UTF-8 text; save the file as UTF-8"),
        (b"a: 1\n" + b"#" * LARGEST, f": is larger than {LARGEST} bytes"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), ":1: is not UTF-8 text"),
    ],
)
def test_what_is_not_utf8_text_of_reasonable_size_is_an_error(tmp_path, data, message):
    assert message in refusal(written(tmp_path, data))


def test_a_path_that_is_no_file_is_an_error_with_its_cause(tmp_path):
    assert "cannot be read (No such file or directory); check its path" in refusal(tmp_path / "none.yaml")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


MUTATIONS = st.tuples(st.integers(0, 200), st.integers(0, 4), st.text("\x00\t\n !&*%@`{}[]:,'\"#-?|>é0", max_size=3))
VALID = "name: a\ndata: {path: x, stride: 2}\nstepper:\n  type: generative\n  sampler:\n    - 1\n    - 'b'\n"


@settings(max_examples=150, deadline=None)
@given(st.lists(MUTATIONS, min_size=1, max_size=4))
def test_a_file_with_random_mistakes_is_read_or_refused_in_one_line(tmp_path_factory, mutations):
    text = VALID
    for place, length, new in mutations:
        text = text[:place] + new + text[place + length :]
    path = written(tmp_path_factory.getbasetemp(), text, "mutated.yaml")
    try:
        assert isinstance(load_yaml(path), dict)
    except ConfigError as error:
        assert str(error).startswith(f"{path}:") and "\n" not in str(error)


# --- extends -----------------------------------------------------------------------------------------------------


def test_a_file_is_merged_by_depth_over_the_one_that_it_extends(tmp_path):
    written(tmp_path, "data: {path: x}\ntraining: {steps: 10, batch: 4}\ncodec: [a, b]\n", "base.yaml")
    (tmp_path / "deep").mkdir()
    path = written(tmp_path, "extends: ../base.yaml\ntraining: {steps: 20}\ncodec: [c]\n", "deep/top.yaml")
    assert load_yaml(path) == {"data": {"path": "x"}, "training": {"steps": 20, "batch": 4}, "codec": ["c"]}


def test_another_type_of_component_replaces_all_its_settings(tmp_path):
    written(tmp_path, "network: {type: unet, width: 8}\nsampler: heun\n", "base.yaml")
    path = written(tmp_path, "extends: base.yaml\nnetwork: {type: dit}\nsampler: {steps: 4}\n")
    assert load_yaml(path) == {"network": {"type": "dit"}, "sampler": {"type": "heun", "steps": 4}}


def test_a_value_knows_in_which_of_the_two_files_it_stands(tmp_path):
    written(tmp_path, "training:\n  batch: 4\n  steps: 10\n", "base.yaml")
    path = written(tmp_path, "extends: base.yaml\ntraining:\n  steps: 20\n")
    document = load_yaml(path)
    assert str(locate(document, ["training", "steps"])) == f"{path}:3: training.steps"
    assert str(locate(document, ["training", "batch"])) == f"{tmp_path}/base.yaml:2: training.batch"


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("a.yaml", ":2: extends: 'a.yaml' extends this file in turn; break the circle"),
        ("b.yaml", "b.yaml:1: extends: 'a.yaml' extends this file in turn; break the circle"),
        ("none.yaml", ":2: extends: there is no file '"),
        ("[b.yaml]", ":2: extends: should be the path of one file, got ['b.yaml']"),
        ("3", ":2: extends: should be the path of one file, got 3"),
    ],
)
def test_a_circle_or_a_missing_base_is_an_error(tmp_path, extends, message):
    written(tmp_path, "extends: a.yaml\n", "b.yaml")
    path = written(tmp_path, f"name: x\nextends: {extends}\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert message in str(caught.value)


# --- overrides ---------------------------------------------------------------------------------------------------


def test_overrides_may_come_in_any_order_and_the_last_of_two_holds():
    document = {"network": {"type": "unet", "width": 8}, "steps": 1}
    changed = {"network": {"type": "dit", "width": 64}, "steps": 3}
    words = ("network.type=dit", "network.width=64", "steps=2", "steps=3")
    assert override(document, words) == changed
    assert override(document, (words[1], words[0], *words[2:])) == changed


def test_an_override_reaches_into_a_list_and_a_component_given_by_name():
    document = {"codec": ["standardize", {"type": "autoencoder", "latent": 16}], "sampler": "euler"}
    assert override(document, ["codec.1.latent=4", "codec.0=run", "sampler.steps=8"]) == {
        "codec": ["run", {"type": "autoencoder", "latent": 4}],
        "sampler": {"type": "euler", "steps": 8},
    }


def test_an_override_may_hold_an_equals_sign_and_yaml():
    assert override({}, ["a.b={c: [1, no]}", "d=x=y", "e='1'"]) == {"a": {"b": {"c": [1, "no"]}}, "d": "x=y", "e": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.steps", "override 'training.steps': write key.path=value, e.g. training.steps=1000"),
        ("=3", "override '=3': write key.path=value"),
        ("a..b=3", "override 'a..b=3': write key.path=value"),
        ("a={b: 1", "override 'a={b: 1': is not valid YAML"),
        ("a={b: 1, b: 2}", "override 'a={b: 1, b: 2}': a.b: duplicate key; remove one of the two"),
        ("a=!!python/name:os.system", "a: the tag !!python/name:os.system is refused"),
        ("codec.2=x", "override 'codec.2=x': codec.2: the list has 2 entries, counted from 0"),
        ("codec.last=x", "codec.last: the list has 2 entries, counted from 0"),
    ],
)
def test_an_override_that_cannot_be_used_is_an_error_that_shows_it(text, message):
    with pytest.raises(ConfigError) as caught:
        override({"codec": ["a", "b"]}, [text])
    assert message in str(caught.value)


def test_a_value_from_an_override_is_placed_at_the_override():
    document = override({"training": {"steps": 1}}, ["training.steps=2"])
    assert str(place_of(next(iter(document["training"])))) == "override 'training.steps=2': training.steps"
