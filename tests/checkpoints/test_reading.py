import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from s3pot.checkpoints.reading import Mismatch, WeightsError, compare, fit, read_contents, sha256_of, state_of


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before-2020"])
def test_both_formats_of_pytorch_are_read(linear: nn.Linear, tmp_path: Path, archive: bool) -> None:
    torch.save(linear.state_dict(), tmp_path / "linear.pth", _use_new_zipfile_serialization=archive)
    found = read_contents(tmp_path / "linear.pth")
    assert found.keys() == {"weight", "bias"}
    assert torch.equal(found["weight"], linear.weight)


def test_safetensors_are_read(linear: nn.Linear, tmp_path: Path) -> None:
    save_file(linear.state_dict(), tmp_path / "linear.safetensors")
    found = read_contents(tmp_path / "linear.safetensors")
    assert torch.equal(found["bias"], linear.bias)


def test_what_lies_beside_the_weights_is_left_there(linear: nn.Linear, tmp_path: Path) -> None:
    # As the training of E4S saves: options of argparse, a second network.
    options = {"device": torch.device("cpu"), "lr": 1e-4, "name": "x", "resume": None, "flag": True, "sizes": [1, 2]}
    contents = {"state_dict": linear.state_dict(), "opts": options, "latent_avg": torch.ones(2), "steps": 3}
    torch.save(contents, tmp_path / "all.pt")
    found = read_contents(tmp_path / "all.pt")
    assert found["opts"] == options
    assert torch.equal(state_of(found, "x")["weight"], linear.weight)


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran while a checkpoint was read",)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before-2020"])
def test_code_in_a_file_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: bool) -> None:
    torch.save({"weight": _Malicious()}, tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(WeightsError, match=r"a\.pth: not a readable checkpoint"):
        read_contents(tmp_path / "a.pth")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"no such checkpoint|not a readable checkpoint") as caught:
        read_contents(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before-2020"])
def test_a_file_cut_anywhere_cannot_be_read(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"weight": torch.rand(8, 8)}, path, _use_new_zipfile_serialization=archive)
    whole = path.read_bytes()
    for kept in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"cut\.pth: not a readable checkpoint"):
            read_contents(path)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth: holds a list, not a dictionary"):
        read_contents(tmp_path / "list.pth")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappings_are_taken_off(linear: nn.Linear, nested: bool, prefix: str) -> None:
    state = OrderedDict((prefix + name, value) for name, value in linear.state_dict().items())
    found = state_of({"state_dict": state, "epoch": 3} if nested else state, "x.pth")
    assert list(found) == ["weight", "bias"]
    assert torch.equal(found["weight"], linear.weight)


def test_a_prefix_of_some_names_belongs_to_them() -> None:
    state = {"module.weight": torch.zeros(1), "bias": torch.zeros(1)}
    assert state_of(state, "x.pth") == state


@pytest.mark.parametrize("contents", [{"epoch": 3}, {"state_dict": [1]}, {"state_dict": {"weight": 1}}])
def test_what_is_no_state_dict_is_named(contents: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match=r"x\.pth: not a plain state dict"):
        state_of(contents, "x.pth")


def test_differences_by_kind_and_in_order() -> None:
    expected = {name: torch.empty(2, 3, device="meta") for name in ("d", "c", "b", "a")}
    given = {
        "e": torch.zeros(1),
        "c": torch.zeros(3, 2),
        "b": torch.zeros(2, 3),
        "a": torch.zeros(2),
        "A": torch.zeros(0),
    }
    found = compare(expected, given)
    assert found == Mismatch(
        missing=("d",), unexpected=("A", "e"), misshaped=(("a", (2, 3), (2,)), ("c", (2, 3), (3, 2)))
    )
    assert found
    assert not compare(expected, expected)


def test_the_summary_counts_and_names_the_first_of_each_kind() -> None:
    mismatch = Mismatch(missing=tuple("abcde"), unexpected=(), misshaped=(("z", (2, 3), (2,)),))
    assert mismatch.summary() == "5 missing (a, b, c, ...); 1 of another shape (z: expected (2, 3), got (2,))"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_what_fits_is_frozen_and_keeps_the_dtype_of_the_network(linear: nn.Linear, dtype: torch.dtype) -> None:
    target = nn.Linear(3, 2)
    assert fit(target, {name: value.to(dtype) for name, value in linear.state_dict().items()}, "x") is target
    assert target.weight.dtype == torch.float32
    torch.testing.assert_close(target.weight.detach(), linear.weight.detach().to(dtype).float(), rtol=0, atol=0)
    assert not target.training
    assert not target.weight.requires_grad


def test_a_network_outlives_the_file_it_was_read_from(linear: nn.Linear, tmp_path: Path) -> None:
    path = tmp_path / "linear.pth"
    torch.save(linear.state_dict(), path)
    target = nn.Linear(3, 2)
    fit(target, state_of(read_contents(path), path), path)
    with path.open("r+b") as opened:
        opened.write(bytes(path.stat().st_size))
    assert torch.equal(target.weight, linear.weight)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": torch.zeros(5, 3), "bias": torch.zeros(2)}, "1 of another shape"),
        ({"weight": torch.zeros(2, 3)}, r"1 missing \(bias\)"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, r"1 unexpected \(more\)"),
        ({}, "2 missing"),
    ],
    ids=["shape", "missing", "unexpected", "empty"],
)
def test_what_does_not_fit_changes_nothing(linear: nn.Linear, state: dict[str, Tensor], words: str) -> None:
    before = linear.weight.detach().clone()
    with pytest.raises(WeightsError, match=rf"x\.pth: does not fit Linear: .*{words}"):
        fit(linear, state, "x.pth")
    assert torch.equal(linear.weight, before)
    assert linear.weight.requires_grad


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"weights" * 100_000).hexdigest()
