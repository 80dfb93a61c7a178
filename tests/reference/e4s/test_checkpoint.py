from pathlib import Path

import pytest
import torch

from s3pot.checkpoints.reading import WeightsError
from s3pot.reference.e4s.checkpoint import e4s_from_checkpoint, entries_expected, entries_given, load_e4s
from s3pot.reference.e4s.model import E4S


@pytest.fixture
def contents(small_e4s: E4S) -> dict[str, object]:
    """A checkpoint as data-parallel training leaves it."""
    state = {f"module.{name}": value.clone() for name, value in small_e4s.state_dict().items()}
    moving_average = {name: value + 1 for name, value in small_e4s.state_dict().items()}
    return {
        "state_dict": state,
        "latent_avg": small_e4s.latent_avg.clone(),
        "opts": {"lr": 1e-4, "resume": None},
        "state_dict_ema": moving_average,
    }


def assert_same(model: E4S, source: E4S) -> None:
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())
    found, expected = entries_expected(model), entries_expected(source)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert found[name].device.type == "cpu"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_arrive_with_and_without_prefix(small_e4s: E4S, contents: dict[str, object], prefix: str) -> None:
    given = {prefix + name.removeprefix("module."): value for name, value in contents["state_dict"].items()}
    assert_same(e4s_from_checkpoint({**contents, "state_dict": given}, "x.pt", small_e4s.config), small_e4s)


def test_weights_arrive_from_a_file(small_e4s: E4S, contents: dict[str, object], tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "x.pt")
    assert_same(load_e4s(tmp_path / "x.pt", small_e4s.config), small_e4s)


def test_the_network_outlives_the_file(small_e4s: E4S, contents: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(contents, path)
    model = load_e4s(path, small_e4s.config)
    with path.open("r+b") as opened:
        opened.write(bytes(path.stat().st_size))
    assert_same(model, small_e4s)


def test_weights_are_copied(small_e4s: E4S, contents: dict[str, object]) -> None:
    model = e4s_from_checkpoint(contents, "x.pt", small_e4s.config)
    for value in [*contents["state_dict"].values(), contents["latent_avg"]]:
        value.zero_()
    assert_same(model, small_e4s)


def test_all_entries_may_lie_side_by_side(small_e4s: E4S) -> None:
    model = e4s_from_checkpoint(entries_expected(small_e4s), "x.safetensors", small_e4s.config)
    assert_same(model, small_e4s)


def test_half_precision_weights_become_float32(small_e4s: E4S, contents: dict[str, object]) -> None:
    state = {name: value.half() for name, value in contents["state_dict"].items()}
    average = contents["latent_avg"].half()
    model = e4s_from_checkpoint({**contents, "state_dict": state, "latent_avg": average}, "x.pt", small_e4s.config)
    assert {value.dtype for value in entries_expected(model).values()} == {torch.float32}


def test_a_missing_average_code_is_named(small_e4s: E4S, contents: dict[str, object]) -> None:
    del contents["latent_avg"]
    with pytest.raises(WeightsError, match=r"x\.pt: does not fit E4S: 1 missing \(latent_avg\)"):
        e4s_from_checkpoint(contents, "x.pt", small_e4s.config)
    assert "latent_avg" not in entries_given({**contents, "latent_avg": None}, "x.pt")


def test_a_missing_state_dict_is_named(small_e4s: E4S, contents: dict[str, object]) -> None:
    del contents["state_dict"]
    with pytest.raises(WeightsError, match=r"x\.pt: not a plain state dict of tensors, nor one under `state_dict`"):
        e4s_from_checkpoint(contents, "x.pt", small_e4s.config)


def test_entries_that_differ_are_named(small_e4s: E4S, contents: dict[str, object]) -> None:
    state = contents["state_dict"]
    del state["module.G.conv1.noise.weight"]
    state["module.extra"] = torch.zeros(1)
    state["module.G.to_rgb1.bias"] = torch.zeros(1, 4, 1, 1)
    with pytest.raises(WeightsError, match=r"x\.pt: does not fit E4S") as raised:
        e4s_from_checkpoint({**contents, "latent_avg": torch.zeros(3)}, "x.pt", small_e4s.config)
    for part in ("1 missing (G.conv1.noise.weight)", "1 unexpected (extra)", "2 of another shape"):
        assert part in str(raised.value)
    assert "G.to_rgb1.bias: expected (1, 3, 1, 1), got (1, 4, 1, 1)" in str(raised.value)
    assert "latent_avg: expected " in str(raised.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pt: no such checkpoint"):
        load_e4s(tmp_path / "absent.pt")
