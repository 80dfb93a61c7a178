import pytest
import torch

from s3pot.reference.e4s.checkpoint import e4s_from_checkpoint
from s3pot.reference.e4s.model import E4S


@pytest.fixture
def contents(small_e4s: E4S) -> dict[str, object]:
    """A checkpoint as data-parallel training leaves it."""
    state = {f"module.{name}": value.clone() for name, value in small_e4s.state_dict().items()}
    return {"state_dict": state, "latent_avg": small_e4s.latent_avg.clone(), "opts": {}}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_arrive_with_and_without_prefix(small_e4s: E4S, contents: dict[str, object], prefix: str) -> None:
    given = {prefix + name.removeprefix("module."): value for name, value in contents["state_dict"].items()}
    model = e4s_from_checkpoint({**contents, "state_dict": given}, "x.pt", small_e4s.config)
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())
    for name, value in small_e4s.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert torch.equal(model.latent_avg, small_e4s.latent_avg)


def test_half_precision_weights_become_float32(small_e4s: E4S, contents: dict[str, object]) -> None:
    state = {name: value.half() for name, value in contents["state_dict"].items()}
    model = e4s_from_checkpoint({**contents, "state_dict": state}, "x.pt", small_e4s.config)
    assert {value.dtype for value in [*model.state_dict().values(), model.latent_avg]} == {torch.float32}


@pytest.mark.parametrize("part", ["state_dict", "latent_avg"])
def test_a_missing_part_is_named(small_e4s: E4S, contents: dict[str, object], part: str) -> None:
    del contents[part]
    with pytest.raises(ValueError, match=rf"x\.pt has no `{part}`"):
        e4s_from_checkpoint(contents, "x.pt", small_e4s.config)


def test_parts_of_the_wrong_kind_are_named(small_e4s: E4S, contents: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="`latent_avg` a tensor"):
        e4s_from_checkpoint({**contents, "latent_avg": None}, "x.pt", small_e4s.config)


def test_entries_that_differ_are_named(small_e4s: E4S, contents: dict[str, object]) -> None:
    state = contents["state_dict"]
    del state["module.G.conv1.noise.weight"]
    state["module.extra"] = torch.zeros(1)
    state["module.G.to_rgb1.bias"] = torch.zeros(1, 4, 1, 1)
    with pytest.raises(ValueError, match="does not fit E4S") as raised:
        e4s_from_checkpoint({**contents, "latent_avg": torch.zeros(3)}, "x.pt", small_e4s.config)
    for part in ("G.conv1.noise.weight is missing", "extra is unexpected", "latent_avg has shape (3,)"):
        assert part in str(raised.value)
    assert "G.to_rgb1.bias has shape (1, 4, 1, 1), expected (1, 3, 1, 1)" in str(raised.value)


def test_a_long_list_is_cut(small_e4s: E4S, contents: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"and \d+ more"):
        e4s_from_checkpoint({**contents, "state_dict": {}}, "x.pt", small_e4s.config)
