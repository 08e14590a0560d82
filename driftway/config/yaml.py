"""YAML 1.2 as plain data in which every key and string remembers where it was written.

A document is a dict of str, int, float, bool, None, list and dict. Its keys and strings are `Located`, so
that whatever is found wrong later, and wherever, can name file and line. Tags, anchors and directives are refused:
a file has one reading, it is no larger than it looks, and nothing in it can name code.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from driftway.errors import ConfigError

LARGEST = 1_000_000  # bytes of a configuration; what is larger is another kind of file
TAG = "tag:yaml.org,2002:"
STRINGS = {TAG + name for name in ("str", "timestamp", "value", "merge")}  # but for str, types of YAML 1.1 only

Document = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where something was written: a file and line, or a command-line option, and the dotted key."""

    source: str
    line: int | None = None
    key: str = ""

    @property
    def where(self) -> str:
        """The source, and the line if it has lines."""
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.key}" if self.key else self.where


class Located(str):
    """A string that knows where it was written; equal to the plain one, and a dict key like it."""

    place: Place | None

    def __new__(cls, text: str, place: Place | None = None) -> Located:
        self = super().__new__(cls, text)
        self.place = place
        return self


def place_of(value: Any) -> Place | None:
    """Where a key, string, mapping or list was written, if it came from a document."""
    if isinstance(value, Located):
        return value.place
    first = place_of(next(iter(value), None)) if isinstance(value, Mapping | list) else None
    inside = first is not None and isinstance(value, Mapping)
    return replace(first, key=first.key.rpartition(".")[0]) if first and inside else first


def locate(document: Any, path: Iterable[str | int]) -> Place | None:
    """The place of the deepest part of `path` that `document` has."""
    place = None
    for part in path:
        if isinstance(document, Mapping) and part in document:
            place = place_of(next(key for key in document if key == part)) or place
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            place = place_of(document[part]) or place
        else:
            break
        document = document[part]  # type: ignore[index]
    return place


def nearest(name: object, valid: Collection[str]) -> str:
    """'; did you mean …?' if one of the valid names is close to `name`, else nothing."""
    close = difflib.get_close_matches(str(name), valid, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def show(value: Any) -> str:
    """A value in an error message: one line, not too long."""
    text = repr(str(value)) if isinstance(value, str) else " ".join(str(plain(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."


def plain(value: Any) -> Any:
    """The value without places and with lists for tuples: what JSON and YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, str) else value


# --- reading ------------------------------------------------------------------------------------------------


def load_yaml(path: str | Path) -> Document:
    """The mapping in a YAML file, over the one that its key `extends` names, relative to the file."""
    return _load(Path(path), ())


def parse_value(text: str, source: str, key: str = "") -> Any:
    """A value from the command line, as YAML: `3`, `cosine`, `[1, 2]`, `{type: euler, steps: 4}`."""
    return _Reader(source, numbered=False).read(text, key)


def _load(path: Path, above: tuple[Path, ...]) -> Document:
    document = _Reader(str(path)).read(_text(path))
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"holds {show(document)}"
        raise ConfigError(f"{path}:1: {found}; a configuration is a mapping of keys to values")
    if "extends" not in document:
        return document
    place, name = locate(document, ["extends"]), document.pop("extends")
    if not isinstance(name, str):
        raise ConfigError(f"{place}: should be the path of one file, got {show(name)}")
    base, seen = path.parent / name, (*above, path.resolve())
    if base.resolve() in seen:
        raise ConfigError(f"{place}: '{name}' extends this file in turn; break the circle")
    if not base.is_file():
        raise ConfigError(f"{place}: there is no file '{base}'; the path is relative to this file")
    return merge(_load(base, seen), document)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its path") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: is larger than {LARGEST} bytes; this is no configuration")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path}:1: starts with a byte-order mark; save the file as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8") from error


@dataclass(frozen=True)
class _Reader:
    """From YAML text to located plain data."""

    source: str
    numbered: bool = True

    def read(self, text: str, key: str = "") -> Any:
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("%"):
                raise self._error(number, "YAML directives are not supported; remove the line")
        try:
            node = YAML(typ="safe", pure=True).compose(text)
            return None if node is None else self._value(node, key)
        except MarkedYAMLError as error:
            raise self._syntax(error, text) from error
        except YAMLError as error:
            number = text[: getattr(error, "position", 0)].count("\n") + 1
            raise self._error(number, "is not YAML: it holds a character that text files do not") from error
        except RecursionError as error:
            raise self._error(1, "is nested too deeply") from error

    def _error(self, number: int, message: str) -> ConfigError:
        return ConfigError(f"{Place(self.source, number if self.numbered else None)}: {message}")

    def _syntax(self, error: MarkedYAMLError, text: str) -> ConfigError:
        mark = error.problem_mark or error.context_mark
        number = 1 if mark is None else mark.line + 1
        line = next(iter(text.splitlines()[number - 1 : number]), "")
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return self._error(number, "a tab indents this line; use spaces")
        problem = " ".join(str(error.problem or error.context).split())
        return self._error(number, f"is not valid YAML: {problem}")

    def _place(self, node: Node, key: str) -> Place:
        return Place(self.source, node.start_mark.line + 1 if self.numbered else None, key)

    def _value(self, node: Node, key: str) -> Any:
        place = self._place(node, key)
        if node.anchor is not None:
            raise ConfigError(f"{place}: anchors and aliases are not supported; write the value out")
        if isinstance(node, MappingNode) and node.tag == TAG + "map":
            return self._mapping(node, key)
        if isinstance(node, SequenceNode) and node.tag == TAG + "seq":
            return [self._value(entry, f"{key}.{i}") for i, entry in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return _scalar(node.tag, node.value, place)
        raise _refused(node.tag, place)

    def _mapping(self, node: MappingNode, key: str) -> Document:
        values: Document = {}
        lines: dict[str, int] = {}
        for name, entry in node.value:
            if not isinstance(name, ScalarNode) or name.tag not in STRINGS:
                found = show(name.value) if isinstance(name, ScalarNode) else "a list or mapping"
                raise ConfigError(f"{self._place(name, key)}: {found} is no key; keys are strings, quote it")
            path = f"{key}.{name.value}" if key else name.value
            place = self._place(name, path)
            if name.value in values:
                first = f" first in line {lines[name.value]};" if self.numbered else ""
                raise ConfigError(f"{place}: duplicate key;{first} remove one of the two")
            lines[name.value] = name.start_mark.line + 1
            values[Located(name.value, place)] = self._value(entry, path)
        return values


def _scalar(tag: str, text: str, place: Place) -> Any:
    digits = text.replace("_", "").lower()
    try:
        if tag in STRINGS:
            return Located(text, place)
        if tag == TAG + "null":
            return None
        if tag == TAG + "bool":
            return {"true": True, "false": False}[digits]
        if tag == TAG + "int":
            return int(digits, 0 if digits.lstrip("+-")[:2] in ("0x", "0o", "0b") else 10)
        if tag == TAG + "float":
            return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{place}: {show(text)} is not a {tag.removeprefix(TAG)}") from error
    raise _refused(tag, place)


def _refused(tag: str, place: Place) -> ConfigError:
    return ConfigError(f"{place}: the tag {tag.replace(TAG, '!!')} is refused: a configuration is plain data")


# --- merging, overriding, writing ---------------------------------------------------------------------------


def merge(base: Any, patch: Any) -> Any:
    """`patch` over `base`: mappings are merged by depth, all else is replaced.

    So is a mapping by one of another `type`. A name on its own stands for {type: name}; the keys of a patch to a
    list are positions in it.
    """
    if not isinstance(patch, dict):
        return patch
    if isinstance(base, list):
        return _merge_list(base, patch)
    base = {"type": base} if isinstance(base, str) else base
    if not isinstance(base, dict) or ("type" in base and patch.get("type", base["type"]) != base["type"]):
        return patch
    keys = {key: key for key in patch}
    merged = {keys.get(k, k): merge(value, patch[k]) if k in patch else value for k, value in base.items()}
    return merged | {key: value for key, value in patch.items() if key not in base}


def _merge_list(base: list[Any], patch: Document) -> list[Any]:
    merged = list(base)
    for key, value in patch.items():
        if key not in map(str, range(len(base))):
            raise ConfigError(f"{place_of(key)}: the list has {len(base)} entries, counted from 0")
        merged[int(key)] = merge(merged[int(key)], value)
    return merged


def override(document: Document, overrides: Iterable[str]) -> Document:
    """The document with each `key.path=value` in place; of two for the same key the last one holds.

    All count as one change, so that `network.type=dit` and `network.width=64` may come in either order.
    """
    patch: Document = {}
    for text in overrides:
        patch = merge(patch, _patch(text))
    return merge(document, patch)


def _patch(text: str) -> Document:
    path, equals, value = text.partition("=")
    parts = [part.strip() for part in path.split(".")]
    source = f"override {show(text)}"
    if not equals or not all(parts):
        raise ConfigError(f"{source}: write key.path=value, e.g. training.steps=1000")
    patch: Any = parse_value(value, source, ".".join(parts))
    for depth in range(len(parts), 0, -1):
        patch = {Located(parts[depth - 1], Place(source, None, ".".join(parts[:depth]))): patch}
    return patch


class _Representer(SafeRepresenter):
    """Writes line breaks and other characters that cannot be seen as escapes: YAML would fold or drop them."""

    def text(self, value: str) -> ScalarNode:
        return self.represent_scalar(f"{TAG}str", value, style=None if value.isprintable() else '"')


_Representer.add_representer(str, _Representer.text)


def dump_yaml(values: Mapping[str, Any]) -> str:
    """YAML that reads back as equal values."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style, yaml.width = False, 2**16
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(plain(values), text)
    return text.getvalue()
