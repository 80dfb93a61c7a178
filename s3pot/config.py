"""Strict configuration: YAML files and `key=value` overrides into frozen dataclasses.

A configuration is a tree of frozen keyword-only dataclasses, each beside the code it configures. A plain mapping is
checked against the tree before any work starts, and every problem is reported at once: dotted key, what came, what was
expected and the nearest valid name. Ranges are for each class to check in `__post_init__`, with a `ValueError` whose
message starts with the field's name.

Field types: int, float, str, bool, Path, Place, Literal, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`,
dataclasses, and `Any` for what the class itself checks.
"""

import dataclasses
import difflib
import math
import re
import reprlib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from s3pot import yaml12
from s3pot.config_fields import (
    REQUIRED,
    FieldHelp,
    default_of,
    describe,
    init_fields,
    is_optional,
    plain,
    type_text,
    without_none,
)
from s3pot.places import Place

__all__ = ["ConfigError", "FieldHelp", "apply_overrides", "describe", "load_yaml", "parse", "to_mapping"]

ConfigT = TypeVar("ConfigT")

_INVALID = object()  # stands for a value whose problem has been noted


class ConfigError(ValueError):
    """One or more problems in a configuration.

    Attributes:
        where: The file or command line that the configuration came from.
        problems: One sentence per problem.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(where, self.problems)  # as the arguments are, so that the error survives pickling

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        return "\n".join([f"{self.where}: {len(self.problems)} problems", *(f"  - {p}" for p in self.problems)])


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; an empty file is an empty mapping.

    Scalars are those of YAML 1.2 (see `s3pot.yaml12`): `1e-4` is a number, `no` and `off` are strings.

    Raises:
        ConfigError: If the file cannot be read, is no YAML, or holds something else than a mapping.
    """
    path = Path(path)
    try:
        mapping = yaml12.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}{_nearest(path.name, siblings)}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is no UTF-8 text: {error}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is no valid YAML: {_one_line(error)}"]) from error
    if not isinstance(mapping, dict | None):
        raise ConfigError(str(path), [f"expected a mapping of keys to values, got {_came(mapping)}"])
    return mapping or {}


def apply_overrides(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `mapping` with `a.b=value` overrides applied in order; values are read as YAML.

    Whether the keys exist is for `parse` to say.

    Raises:
        ConfigError: If an override is no `key=value`, its value is no YAML, or its key goes through a value.
    """
    result = _copy_groups(mapping)
    problems: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"{override!r}: expected key=value, such as optimizer.lr=1e-3")
            continue
        try:
            value = yaml12.load(text)
        except yaml.YAMLError as error:
            problems.append(f"{override!r}: the value is no valid YAML: {_one_line(error)}")
            continue
        group: Any = result
        for depth, part in enumerate(parts[:-1]):
            if group.get(part) is None:
                group[part] = {}
            group = group[part]
            if not isinstance(group, dict):
                problems.append(f"{override!r}: {'.'.join(parts[: depth + 1])} is {_came(group)}, not a group of keys")
                break
        else:
            group[parts[-1]] = value
    if problems:
        raise ConfigError("command line", problems)
    return result


def parse(cls: type[ConfigT], mapping: Mapping[str, Any], *, where: str) -> ConfigT:
    """Build a configuration from a plain mapping, strictly.

    Args:
        cls: A dataclass; its fields may be dataclasses.
        mapping: What a YAML file holds.
        where: Name of the file or command line, for messages.

    Raises:
        ConfigError: Naming every unknown key, missing key and wrong type; and every value out of range in groups that
            are otherwise sound.
        TypeError: If `cls` has a field of a type that this module does not support.
    """
    problems: list[str] = []
    config: Any = _parse_group(cls, mapping, "", problems)
    if problems:
        raise ConfigError(where, problems)
    return typing.cast(ConfigT, config)


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a configuration into dicts, lists and scalars; `parse` of the result gives an equal configuration."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected an instance of a dataclass, got {_came(config)}")
    return typing.cast(dict[str, Any], plain(config))


def _parse_group(cls: Any, value: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{key or 'top level'}: expected a group of keys ({cls.__name__}), got {_came(value)}")
        return _INVALID
    hints, fields = typing.get_type_hints(cls), init_fields(cls)
    before = len(problems)
    for name in value:
        if name not in fields:
            problems.append(f"{_join(key, name)}: unknown key{_nearest_key(name, cls)}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _parse_value(hints[name], value[name], _join(key, name), problems)
        elif default_of(field) is REQUIRED:
            problems.append(f"{_join(key, name)}: missing, expected {type_text(hints[name])}")
    if len(problems) > before:
        return _INVALID
    try:
        return cls(**arguments)
    except ValueError as error:
        message = str(error)
        names_field = re.split(r"\W", message, maxsplit=1)[0] in fields
        problems.append(_join(key, message) if names_field else f"{key or 'top level'}: {message}")
        return _INVALID


def _parse_value(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _parse_group(kind, value, key, problems)
    if is_optional(kind):
        return None if value is None else _parse_value(without_none(kind), value, key, problems)
    if origin is Literal:
        return _parse_choice(inner, value, key, problems)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(value):
            items = enumerate(zip(kinds, value, strict=True))
            return tuple(_parse_value(k, v, f"{key}[{i}]", problems) for i, (k, v) in items)
    elif origin is dict and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _parse_value(inner[1], v, _join(key, name), problems) for name, v in value.items()}
    elif kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value).expanduser()
    elif kind is Place and isinstance(value, str | Path) and str(value):
        return Place(value)
    elif kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    elif kind in (int, str, bool) and type(value) is kind:  # exact: True is an int in Python, not in a configuration
        return value
    finite = "finite " if kind is float and isinstance(value, float) else ""
    problems.append(f"{key}: expected {finite}{type_text(kind)}, got {_came(value)}")
    return _INVALID


def _parse_choice(choices: tuple[Any, ...], value: Any, key: str, problems: list[str]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    hint = _nearest(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
    problems.append(f"{key}: expected {type_text(Literal[choices])}, got {_came(value)}{hint}")
    return _INVALID


def _nearest_key(name: str, cls: Any) -> str:
    """Suggest a key of this group, else the same name in a group below it, else list the keys of this group."""
    here = list(init_fields(cls))
    below = [row.key for row in describe(cls) if row.key.endswith(f".{name}")]
    if hint := _nearest(name, here):
        return hint
    return f"; did you mean {below[0]!r}?" if below else f"; valid: {', '.join(here) or 'none'}"


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _came(value: Any) -> str:
    return "null" if value is None else f"{reprlib.repr(value)} ({type(value).__name__})"


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _copy_groups(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copy_groups(v) if isinstance(v, Mapping) else v for name, v in mapping.items()}
