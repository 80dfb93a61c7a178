from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from s3pot.config_fields import FieldHelp, describe, type_text


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised.

    Attributes:
        variant: Form of Eq. 2.
        weight (float): Weight of the face term, at least 0,
            0.5 in the paper.
    """

    variant: Literal["paper", "bounded"] = "paper"
    weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run.

    Attributes:
        epochs: Passes over the store: 50 in the paper.
        objective: Not printed, its keys are.

    Example:
        fake: this is no field.
    """

    epochs: int
    objective: Objective = field(default_factory=lambda: Objective(weight=2.0))
    refine: Objective | None = None
    stores: tuple[Path, ...] = (Path("a"), Path("b"))
    undocumented: str | None = None
    derived: int = field(init=False, default=3)


def test_describe_lists_every_key_with_its_help() -> None:
    assert describe(Training) == [
        FieldHelp("epochs", "int", "required", "Passes over the store: 50 in the paper."),
        FieldHelp("objective.variant", "paper | bounded", "paper", "Form of Eq. 2."),
        # The default of the parent, 2.0, and not that of the nested class.
        FieldHelp("objective.weight", "float", "2.0", "Weight of the face term, at least 0, 0.5 in the paper."),
        FieldHelp("refine.variant", "paper | bounded", "paper", "Form of Eq. 2."),
        FieldHelp("refine.weight", "float", "0.5", "Weight of the face term, at least 0, 0.5 in the paper."),
        FieldHelp("stores", "list of path", "[a, b]", ""),
        FieldHelp("undocumented", "str or null", "null", ""),
    ]


@dataclass(frozen=True)
class Bare:
    x: int = 1


@dataclass(frozen=True, kw_only=True)
class LongTraining(Training):
    """A training with one more key.

    Attributes:
        patience: epochs without improvement.
    """

    patience: int = 3


def test_inherited_keys_keep_their_help() -> None:
    by_key = {row.key: row.doc for row in describe(LongTraining)}
    assert by_key["patience"] == "epochs without improvement."
    assert by_key | {row.key: row.doc for row in describe(Training)} == by_key


def test_describe_without_docstring() -> None:
    assert describe(Bare) == [FieldHelp("x", "int", "1", "")]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (bool, "bool"),
        (Path, "path"),
        (float | None, "float or null"),
        (Literal["a", 1, None], "a | 1 | null"),
        (tuple[int, ...], "list of int"),
        (tuple[int, float], "list [int, float]"),
        (dict[str, tuple[float, ...]], "group of list of float"),
        (Bare, "group Bare"),
        (Any, "anything"),
    ],
)
def test_type_text(kind: Any, text: str) -> None:
    assert type_text(kind) == text


@pytest.mark.parametrize("kind", [list[int], set[int], dict[int, str], int | str, int | str | None, object])
def test_unsupported_types_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="a configuration field cannot be"):
        type_text(kind)
