import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3pot import yaml12
from s3pot.config import ConfigError, apply_overrides, describe, load_yaml, parse, to_mapping


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How to step.

    Attributes:
        lr: Learning rate, above 0.
        betas: Decay rates of AdamW.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run."""

    store: Path
    epochs: int = 50
    objective: Literal["paper", "bounded", "released"] = "paper"
    shuffle: bool = True
    note: str = ""
    limit: int | None = None
    scales: tuple[int, ...] = (1,)
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    stages: tuple[Optimizer, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1 and not self.stages:
            raise ValueError("a run without stages needs at least 1 epoch")


def problems_of(mapping: dict[str, Any], cls: type = Run) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(cls, mapping, where="run.yaml")
    return caught.value.problems


def test_parse_converts_and_fills_defaults() -> None:
    mapping = {
        "store": "runs/a",
        "epochs": 3,
        "limit": None,
        "scales": [1, 2],
        "weights": {"face": 1},
        "optimizer": {"lr": 1, "betas": [0, 0.5]},
        "stages": [{"lr": 0.1}],
    }
    assert parse(Run, mapping, where="run.yaml") == Run(
        store=Path("runs/a"),
        epochs=3,
        scales=(1, 2),
        weights={"face": 1.0},
        optimizer=Optimizer(lr=1.0, betas=(0.0, 0.5)),
        stages=(Optimizer(lr=0.1),),
    )


def test_int_becomes_float_in_a_float_field() -> None:
    lr = parse(Optimizer, {"lr": 1}, where="x").lr
    assert isinstance(lr, float)


def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse(Run, {"store": "~/a"}, where="x").store == Path("/home/someone/a")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "3", "epochs: expected int, got '3' (str)"),
        ("epochs", 3.0, "epochs: expected int, got 3.0 (float)"),
        ("epochs", True, "epochs: expected int, got True (bool)"),
        ("epochs", None, "epochs: expected int, got null"),
        ("shuffle", 1, "shuffle: expected bool, got 1 (int)"),
        ("shuffle", "no", "shuffle: expected bool, got 'no' (str)"),
        ("note", 3, "note: expected str, got 3 (int)"),
        ("store", 3, "store: expected path, got 3 (int)"),
        ("store", "", "store: expected path, got '' (str)"),
        ("limit", "all", "limit: expected int, got 'all' (str)"),
        ("scales", 3, "scales: expected list of int, got 3 (int)"),
        ("scales", "12", "scales: expected list of int, got '12' (str)"),
        ("scales", [1, "b"], "scales[1]: expected int, got 'b' (str)"),
        ("weights", [1], "weights: expected group of float, got [1] (list)"),
        ("weights", {"face": "x"}, "weights.face: expected float, got 'x' (str)"),
        ("weights", {1: 1.0}, "weights: expected group of float, got {1: 1.0} (dict)"),
        (
            "objective",
            "Paper",
            "objective: expected paper | bounded | released, got 'Paper' (str); did you mean 'paper'?",
        ),
        ("objective", 1, "objective: expected paper | bounded | released, got 1 (int)"),
        ("optimizer", None, "optimizer: expected a group of keys (Optimizer), got null"),
        ("optimizer", {"lr": True}, "optimizer.lr: expected float, got True (bool)"),
        ("optimizer", {"lr": float("nan")}, "optimizer.lr: expected finite float, got nan (float)"),
        ("optimizer", {"lr": float("inf")}, "optimizer.lr: expected finite float, got inf (float)"),
        ("optimizer", {"lr": -1}, "optimizer.lr must be above 0, got -1.0"),
        ("optimizer", {"betas": [0.9]}, "optimizer.betas: expected list [float, float], got [0.9] (list)"),
        ("stages", [{}, {"lr": 0}], "stages[1].lr must be above 0, got 0.0"),
        ("epoch", 3, "epoch: unknown key; did you mean 'epochs'?"),
        ("lr", 3, "lr: unknown key; did you mean 'optimizer.lr'?"),
        ("optimizer", {"momentum": 1}, "optimizer.momentum: unknown key; valid: lr, betas"),
        ("epochs", 0, "top level: a run without stages needs at least 1 epoch"),
    ],
)
def test_one_problem(key: str, value: object, expected: str) -> None:
    assert problems_of({"store": "a", key: value}) == (expected,)


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of({"epochs": "3", "shufle": True, "optimizer": {"lr": 0, "betas": [1, 2]}})
    assert problems == (
        "shufle: unknown key; did you mean 'shuffle'?",
        "store: missing, expected path",
        "epochs: expected int, got '3' (str)",
        "optimizer.lr must be above 0, got 0.0",
    )
    with pytest.raises(ConfigError, match=r"(?s)^run.yaml: 2 problems\n  - .*unknown.*\n  - store: missing"):
        parse(Run, {"x": 1}, where="run.yaml")


def test_message_of_one_problem_is_one_line() -> None:
    assert str(ConfigError("run.yaml", ["epochs: expected int"])) == "run.yaml: epochs: expected int"


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("run.yaml", ["a", "b"])))
    assert (error.where, error.problems) == ("run.yaml", ("a", "b"))


def test_true_is_not_one_in_a_literal() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Channels:
        count: Literal[1, 3] = 1

    assert parse(Channels, {"count": 3}, where="x").count == 3
    assert problems_of({"count": True}, Channels) == ("count: expected 1 | 3, got True (bool)",)


def test_unsupported_field_type_is_the_programmers_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        ids: list[int]

    with pytest.raises(TypeError, match="a configuration field cannot be"):
        parse(Wrong, {"ids": [1]}, where="x")


@given(
    st.builds(
        Run,
        store=st.sampled_from([Path("a"), Path("/b/c")]),
        epochs=st.integers(1, 10**9),
        objective=st.sampled_from(["paper", "bounded", "released"]),
        note=st.text(),
        limit=st.none() | st.integers(),
        scales=st.lists(st.integers()).map(tuple),
        weights=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        stages=st.lists(st.builds(Optimizer, lr=st.floats(1e-9, 1))).map(tuple),
    )
)
def test_round_trip_through_yaml(run: Run) -> None:
    mapping = to_mapping(run)
    assert parse(Run, mapping, where="x") == run
    assert parse(Run, yaml12.load(yaml12.dump(mapping)), where="x") == run


def test_to_mapping_takes_instances_only() -> None:
    for wrong in (Run, {"a": 1}):
        with pytest.raises(TypeError, match="expected an instance of a dataclass"):
            to_mapping(wrong)


def test_every_described_key_can_be_set() -> None:
    for row in describe(Run):
        if row.default not in ("required", "[]", "{}"):
            parse(Run, apply_overrides({"store": "a"}, [f"{row.key}={row.default}"]), where="x")


def test_overrides() -> None:
    mapping = {"epochs": 3, "optimizer": {"lr": 1.0}, "refine": None}
    overrides = ["optimizer.lr=1e-3", "scales=[1, 2]", "note=a=b", "limit=", "refine.lr=2", " epochs =4", "epochs=5"]
    assert apply_overrides(mapping, overrides) == {
        "epochs": 5,
        "optimizer": {"lr": 1e-3},
        "refine": {"lr": 2},
        "scales": [1, 2],
        "note": "a=b",
        "limit": None,
    }
    assert mapping == {"epochs": 3, "optimizer": {"lr": 1.0}, "refine": None}, "the input must not change"


def test_all_wrong_overrides_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"epochs": 3}, ["epochs", "=1", "a..b=1", "epochs.x=1", "note=[1,"])
    assert caught.value.where == "command line"
    assert caught.value.problems[:4] == (
        "'epochs': expected key=value, such as optimizer.lr=1e-3",
        "'=1': expected key=value, such as optimizer.lr=1e-3",
        "'a..b=1': expected key=value, such as optimizer.lr=1e-3",
        "'epochs.x=1': epochs is 3 (int), not a group of keys",
    )
    assert caught.value.problems[4].startswith("'note=[1,': the value is no valid YAML: ")


def test_load_yaml(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optimizer: {lr: 1e-4}\nobjective: no\n", encoding="utf-8")
    assert load_yaml(path) == {"optimizer": {"lr": 1e-4}, "objective": "no"}
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load_yaml(str(path)) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", r"expected a mapping of keys to values, got \[1\] \(list\)"),
        (b"word", r"expected a mapping of keys to values, got 'word' \(str\)"),
        (b"0", r"expected a mapping of keys to values, got 0 \(int\)"),
        (b"a: [1,\n", r"is no valid YAML: .*line 2, column 1"),
        (b"a: 1\na: 2\n", r"is no valid YAML: key 'a' is given twice at line 2, column 1"),
        (b"a: \xff\n", "is no UTF-8 text"),
    ],
)
def test_load_yaml_names_file_and_problem(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"run\.yaml: {message}"):
        load_yaml(path)


def test_load_yaml_of_a_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train_nano.yaml").write_text("", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"train_nan\.yaml: cannot be read: No such file.*did you mean 'train_nano\.yaml'"
    ):
        load_yaml(tmp_path / "train_nan.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory$"):
        load_yaml(tmp_path / "nowhere" / "a.yaml")


def test_a_field_of_any_type_takes_what_comes() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Grid:
        axes: dict[str, Any] = field(default_factory=dict)

    mapping = {"axes": {"lam": [0.5, None, "x"], "nested": {"a": True}}}
    assert parse(Grid, mapping, where="test").axes == mapping["axes"]
    assert to_mapping(parse(Grid, mapping, where="test")) == mapping
    assert problems_of({"axes": [1]}, Grid) == ("axes: expected group of anything, got [1] (list)",)
