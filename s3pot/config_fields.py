"""What a configuration class declares: its keys with type, default and docstring line.

The reading side is `s3pot.config`; this is what `--help` prints and what error messages name. A class documents its
fields under `Attributes:` of its Google docstring, one line each with unit, range and the paper's default.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

from s3pot import yaml12
from s3pot.places import Place

REQUIRED = object()  # default of a field that has none


class FieldHelp(NamedTuple):
    """Help for one configuration key.

    Attributes:
        key: Dotted key.
        type: Type in words.
        default: Default as YAML, or "required".
        doc: Docstring line.
    """

    key: str
    type: str
    default: str
    doc: str


def describe(cls: type[Any]) -> list[FieldHelp]:
    """List every key of a configuration class, nested keys dotted, in field order."""
    return _describe(cls, "", None)


def init_fields(cls: Any) -> "dict[str, dataclasses.Field[Any]]":
    """Return the fields that a configuration may set, by name."""
    return {f.name: f for f in dataclasses.fields(cls) if f.init}


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return the default of a field, or `REQUIRED`."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else REQUIRED


def is_optional(kind: Any) -> bool:
    """Tell whether a type is `X | None`."""
    return typing.get_origin(kind) in (Union, types.UnionType) and type(None) in typing.get_args(kind)


def without_none(kind: Any) -> Any:
    """Return X of `X | None`.

    Raises:
        TypeError: For unions of more types, which a message could not explain to a user.
    """
    rest = tuple(k for k in typing.get_args(kind) if k is not type(None))
    if len(rest) != 1:
        raise TypeError(f"a configuration field cannot be {kind}: of unions only X | None is supported")
    return rest[0]


def type_text(kind: Any) -> str:
    """Name a type in words.

    Raises:
        TypeError: For a type that a configuration field cannot have.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return "anything"
    if kind in (int, float, str, bool):
        return str(kind.__name__)
    if kind is Path:
        return "path"
    if kind is Place:
        return "path or URI"
    if dataclasses.is_dataclass(kind):
        return f"group {getattr(kind, '__name__', kind)}"
    if is_optional(kind):
        return f"{type_text(without_none(kind))} or null"
    if origin is Literal:
        return " | ".join(yaml12.dump(choice, inline=True) for choice in inner)
    if origin is tuple and inner:
        parts = [type_text(k) for k in inner if k is not Ellipsis]
        return f"list of {parts[0]}" if inner[-1] is Ellipsis else f"list [{', '.join(parts)}]"
    if origin is dict and inner[0] is str:
        return f"group of {type_text(inner[1])}"
    raise TypeError(f"a configuration field cannot be {kind}")


def plain(value: Any) -> Any:
    """Turn a configuration value into dicts, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in init_fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path | Place) else value


def _describe(cls: Any, prefix: str, instance: Any) -> list[FieldHelp]:
    hints = typing.get_type_hints(cls)
    docs = {name: doc for base in reversed(cls.__mro__) for name, doc in _attribute_docs(base).items()}
    rows: list[FieldHelp] = []
    for name, field in init_fields(cls).items():
        key, kind = f"{prefix}{name}", hints[name]
        # A parent's default instance may differ from the defaults of the nested class itself.
        default = default_of(field) if instance is None else getattr(instance, name)
        nested = without_none(kind) if is_optional(kind) else kind
        if dataclasses.is_dataclass(nested):
            rows.extend(
                _describe(nested, f"{key}.", default if isinstance(default, typing.cast(type, nested)) else None)
            )
        else:
            text = "required" if default is REQUIRED else yaml12.dump(plain(default), inline=True)
            rows.append(FieldHelp(key, type_text(kind), text, docs.get(name, "")))
    return rows


def _attribute_docs(cls: Any) -> dict[str, str]:
    """Read the `Attributes:` section of a docstring; deeper indented lines continue the one above."""
    docs: dict[str, str] = {}
    inside, name = False, ""
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        if line and not line.startswith(" "):
            inside = line == "Attributes:"
        elif inside and (start := re.match(r"    (\w+)(?: \([^)]*\))?: *(.*)", line)):
            name = start[1]
            docs[name] = start[2].strip()
        elif inside and name and line:
            docs[name] += " " + line.strip()
    return docs
