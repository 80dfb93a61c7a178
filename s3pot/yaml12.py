"""YAML with the scalars of YAML 1.2 and no surprises, for configuration files.

PyYAML follows YAML 1.1, where `1e-4` is a string, `no` and `off` are false, `012` is ten and `1:30` is ninety. In an
experiment file each of those is a silent mistake. The loader and the dumper share one table of scalar forms, so that
what one writes the other reads back. Keys must be strings and may not repeat.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_SCALAR_FORMS: tuple[tuple[str, str, str], ...] = (  # tag, form, first characters
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, form, starts in _SCALAR_FORMS:
        for start in starts:
            key = "" if start == "\0" else start  # PyYAML looks up the empty scalar under the empty string
            table.setdefault(key, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{form})\\Z")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"keys must be strings, got {key!r} ({type(key).__name__}): quote it",
                    key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True  # a value used twice is written twice: anchors help no reader of a configuration


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Unquoted, PyYAML writes the line breaks of Unicode so that it reads them back as spaces.
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def load(text: str) -> Any:
    """Read one YAML document.

    Raises:
        yaml.YAMLError: With line and column, for bad syntax, repeated keys and keys that are no strings.
    """
    return yaml.load(text, Loader=_Loader)


def dump(value: Any, *, inline: bool = False) -> str:
    """Write plain data as YAML that `load` reads back equal; `inline` gives one line without its end."""
    if not inline:
        return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return str(text).removesuffix("\n").removesuffix("\n...")
