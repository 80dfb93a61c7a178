import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from s3pot import yaml12

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("+12", 12),
        ("0x10", 16),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("012", "012"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("none", "none"),
        ("'1'", "1"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars(text: str, value: object) -> None:
    loaded = yaml12.load(text)
    assert loaded == value
    assert type(loaded) is type(value)


@given(TREES)
def test_load_inverts_dump(tree: object) -> None:
    assert yaml12.load(yaml12.dump(tree)) == tree
    assert yaml12.load(yaml12.dump(tree, inline=True)) == tree


@pytest.mark.parametrize("text", ["1e-4", "12e4567", "true", "", "~", "012", "no"])
def test_strings_stay_strings(text: str) -> None:
    assert yaml12.load(yaml12.dump({"git": text})) == {"git": text}


def test_dump_inline_is_one_line() -> None:
    assert yaml12.dump({"a": [1, None], "b": {"c": "x"}}, inline=True) == "{a: [1, null], b: {c: x}}"
    assert yaml12.dump("bounded", inline=True) == "bounded"
    assert "\n" not in yaml12.dump(["word"] * 100, inline=True)


def test_order_is_kept_and_repeated_values_are_written_out() -> None:
    value = [1]
    assert yaml12.dump({"b": value, "a": value}) == "b:\n- 1\na:\n- 1\n"


def test_merge_keys() -> None:
    text = "base: &base {lr: 1, epochs: 2}\nlong:\n  <<: *base\n  epochs: 50\n"
    assert yaml12.load(text)["long"] == {"lr": 1, "epochs": 50}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nepochs: 3\nlr: 2", r"'lr' is given twice(.|\n)*line 3"),
        ("a: {b: 1, b: 1}", "'b' is given twice"),
        ("1: x", r"keys must be strings, got 1 \(int\)"),
        ("true: x", "keys must be strings"),
        ("a: [1,", "line 1"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        yaml12.load(text)
