"""From a description, {type: name, setting: value, …}, to the object: a table lookup and a checked call.

The names that a description may use are the keys of the table that the program hands over, and its settings are
the parameters of the class or function found there, with their annotations as types. Nothing is imported and
nothing is converted: `"3"` is not a number, `true` is not 1; only an integer may stand for a float.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from driftway.config.yaml import locate, nearest, place_of, plain, show
from driftway.errors import ConfigError

T = TypeVar("T")
Factory = Callable[..., Any]
Nested = Mapping[type, Mapping[str, Factory]]

NO_COMPONENTS: Nested = MappingProxyType({})
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
FAILURES = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def construct(
    registry: Mapping[str, Callable[..., T]],
    spec: Mapping[str, Any] | str,
    /,
    *,
    nested: Nested = NO_COMPONENTS,
    **context: Any,
) -> T:
    """The component that `spec` describes: a name in `registry`, or a mapping of `type` and settings.

    `context` holds the parameters that the program supplies and a description may not; `nested` maps the base
    class of a component, as parameters are annotated with it, to the table of its names.
    """
    factory, settings = _resolve(registry, spec, nested, context)
    try:
        return factory(**settings, **context)
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _error(spec, f"{_name(spec)} cannot be made with {show(settings)}: {reason}") from error


def check(
    registry: Mapping[str, Factory],
    spec: Mapping[str, Any] | str,
    /,
    *,
    nested: Nested = NO_COMPONENTS,
    given: Collection[str] = (),
    besides: Collection[str] = (),
) -> dict[str, Any]:
    """The settings that `construct` would use, defaults among them, or its ConfigError.

    `given` names what the program is yet to supply; `besides` are those of the given that a description may hold as
    well and that the caller has taken out of it.
    """
    factory, settings = _resolve(registry, spec, nested, given, besides)
    defaults = {
        name: p.default for name, p in inspect.signature(factory).parameters.items() if p.default is not p.empty
    }
    return {**defaults, **settings}


@contextmanager
def placed(spec: Any, key: str) -> Iterator[None]:
    """Puts the place of an entry of a description in front of a ConfigError from code that does not know it."""
    try:
        yield
    except ConfigError as error:
        raise _error(spec, str(error), key) from error


def _resolve(
    registry: Mapping[str, Callable[..., T]],
    spec: Mapping[str, Any] | str,
    nested: Nested,
    given: Collection[str],
    besides: Collection[str] = (),
) -> tuple[Callable[..., T], dict[str, Any]]:
    """The factory of a description and its settings, checked."""
    name = _name(spec)
    if not isinstance(name, str) or name not in registry:
        raise _error(name if place_of(name) else spec, _unknown(f"type {show(name)}", name, registry))
    factory = registry[name]
    settings = {} if isinstance(spec, str) else {key: value for key, value in spec.items() if key != "type"}
    parameters = {p.name: p for p in inspect.signature(factory).parameters.values() if p.kind in NAMED}
    open_to = [parameter for parameter in parameters if parameter not in given]
    for key in settings:
        if key in given:
            raise _error(key, f"'{key}' of {name} is set by the program; remove it")
        if key not in open_to:
            raise _error(key, _unknown(f"key '{key}' of {name}", key, [*open_to, *besides]))
    if odd := [key for key in given if key not in parameters]:
        raise _error(spec, f"{name} does not take '{odd[0]}', which the program supplies; add the parameter")
    for key in open_to:
        if key not in settings and parameters[key].default is inspect.Parameter.empty:
            raise _error(spec, f"{name} needs '{key}'")
    hints = _hints(factory)
    return factory, {str(k): _value(hints.get(k, Any), v, spec, k, nested) for k, v in settings.items()}


def _name(spec: Any) -> Any:
    if isinstance(spec, Mapping):
        if "type" not in spec:
            raise _error(spec, "'type' is missing: the name of the component")
        return spec["type"]
    if not isinstance(spec, str):
        raise _error(spec, f"should be a name or a mapping with 'type', got {show(spec)}")
    return spec


def _hints(factory: Factory) -> dict[str, Any]:
    # A dataclass's own annotations are resolved class by class, each in the module where it was written; those
    # of its generated __init__ would all be looked up in the module of the subclass.
    source = factory.__init__ if isinstance(factory, type) and not is_dataclass(factory) else factory
    return get_type_hints(source, include_extras=True)


def _value(hint: Any, value: Any, spec: Any, key: str, nested: Nested) -> Any:
    """One setting, as its parameter's annotation wants it."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kind = next((o for o in options if isinstance(o, type) and (o in nested or is_dataclass(o))), None)
    if kind is None:
        return _checked(hint, value, spec, key)
    if isinstance(value, kind) or (value is None and type(None) in options):
        return value
    if kind in nested and isinstance(value, str | Mapping):
        return construct(nested[kind], value, nested=nested)
    if kind not in nested and isinstance(value, Mapping):
        return construct({key: kind}, {"type": key, **value}, nested=nested)
    others = tuple(option for option in options if option not in (kind, type(None)))
    if others:
        return _checked(Union[others], value, spec, key)  # noqa: UP007 - a tuple of types
    wanted = f"a name ({', '.join(nested[kind])}) or a mapping with 'type'" if kind in nested else "a mapping"
    raise _error(spec, f"'{key}' should be {wanted}, got {show(value)}", key)


def _checked(hint: Any, value: Any, spec: Any, key: str) -> Any:
    """A value of plain types; by way of JSON, in which a list may be strictly a tuple."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
        return adapter.validate_json(json.dumps(plain(value)), strict=True)
    except ValidationError as error:
        raise _error(spec, f"'{key}' {explain(error.errors()[0])}", key) from error
    except (PydanticUserError, TypeError) as error:
        raise _error(spec, f"'{key}' cannot be set in a configuration, only in Python", key) from error


def explain(error: ErrorDetails) -> str:
    """A pydantic error as the end of a sentence that starts with the key."""
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message[:1].lower() + message[1:].replace("valid tuple", "list").replace("valid dictionary", "mapping")
    if error["type"] == "model_type":
        message = "should be a mapping"
    expected = str(error.get("ctx", {}).get("expected", "")).split("'")[1::2]
    return f"{message}, got {show(error['input'])}{nearest(error['input'], expected)}"


def _unknown(what: str, name: object, valid: Collection[str]) -> str:
    return f"unknown {what}{nearest(name, valid) or ';'} valid: {', '.join(sorted(valid)) or 'none'}"


def _error(spec: Any, message: str, key: str | None = None) -> ConfigError:
    place = (locate(spec, [key]) if key else None) or place_of(spec)
    return ConfigError(f"{place}: {message}" if place else message)
