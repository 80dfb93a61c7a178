import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from segment_anything import sam_model_registry
from torch import Tensor

from s3pot.chain import ChainConfig
from s3pot.checkpoints.catalogue import (
    CHECKPOINTS,
    Checkpoint,
    CheckpointName,
    describe_checkpoint,
    expected_entries,
    find_checkpoint,
    hold_against,
)
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import describe
from tests.parity import description

NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)


def shapes(entries: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in entries.items()}


def test_every_name_has_one_entry() -> None:
    assert [entry.name for entry in CHECKPOINTS] == list(NAMES)
    assert len({entry.file for entry in CHECKPOINTS}) == len(CHECKPOINTS)
    assert [describe_checkpoint(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda entry: entry.name)
def test_an_entry_says_what_a_user_needs(entry: Checkpoint) -> None:
    assert entry.page.startswith("https://github.com/")
    assert entry.licence
    assert entry.config_key in {f"chain.{field.key}" for field in describe(ChainConfig)}
    assert (entry.sha256 is None) == (entry.hash_from is None)
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    if entry.url is not None:
        assert entry.url.startswith("https://")
        assert entry.url.endswith(f"/{entry.file}")
        assert entry.sha256 is not None, "what is fetched is verified"


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_a_sam_is_the_stock_one(name: CheckpointName) -> None:
    with torch.device("meta"):
        stock = sam_model_registry[name]()
    assert shapes(expected_entries(name)) == shapes(stock.state_dict())


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "bisenet"])
def test_the_known_size_is_that_of_the_entries_and_a_little_more(name: CheckpointName) -> None:
    # A PyTorch file adds a few hundred bytes per entry to the numbers themselves.
    entries = expected_entries(name).values()
    size = describe_checkpoint(name).size
    assert size is not None
    assert 0 < size - sum(value.nbytes for value in entries) < 500 * len(entries)


@pytest.mark.parametrize("name", ["bisenet", "e4s"])
def test_the_entries_are_those_of_the_released_file(name: CheckpointName, shared_parity: Path) -> None:
    released = {entry["key"]: entry["shape"] for entry in description(shared_parity / f"{name}_state.json")}
    if name == "e4s":
        released["latent_avg"] = [18, 512]
    found = expected_entries(name)
    assert shapes(found) == released
    assert all(value.dtype in (torch.float32, torch.int64) for value in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_entries_cost_no_memory(name: CheckpointName) -> None:
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        found = expected_entries(name)
    assert {value.device.type for value in found.values()} == {"meta"}
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.events() or ())
    assert 0 < allocated < 100_000, "bytes; a few scalars are drawn on the way"


def test_a_file_in_the_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    (tmp_path / "79999_iter.pth").touch()
    assert find_checkpoint("bisenet") == tmp_path / "79999_iter.pth"


def test_a_given_file_or_folder_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    (tmp_path / "79999_iter.pth").touch()
    mine, folder = tmp_path / "mine.pth", tmp_path / "folder"
    folder.mkdir()
    for path in (mine, folder / "79999_iter.pth"):
        path.touch()
    assert find_checkpoint("bisenet", mine) == mine
    assert find_checkpoint("bisenet", folder) == folder / "79999_iter.pth"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("bisenet", Path("~/mine.pth")) == mine


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", [None, "folder", "absent.pth"])
def test_what_is_missing_is_described(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: CheckpointName, given: str | None
) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    (tmp_path / "folder").mkdir()
    entry = describe_checkpoint(name)
    with pytest.raises(WeightsError) as caught:
        find_checkpoint(name, None if given is None else tmp_path / given)
    looked_at = {None: tmp_path / entry.file, "folder": tmp_path / "folder" / entry.file}
    message = str(caught.value)
    assert message.startswith(f"{looked_at.get(given, tmp_path / 'absent.pth')}: ")
    for said in (name, entry.file, entry.page, "S3POT_WEIGHTS", f"{entry.config_key}=PATH"):
        assert said in message
    assert ("s3pot models pull" in message) == (entry.url is not None)


@pytest.mark.parametrize("name", ["bisenet", "e4s", "vit_b"])
def test_what_a_file_holds_is_held_against_it(name: CheckpointName) -> None:
    entries = expected_entries(name)
    contents: dict[str, object] = {"state_dict": {f"module.{key}": value for key, value in entries.items()}}
    if name == "e4s":
        contents = {"state_dict": entries, "latent_avg": entries.pop("latent_avg"), "opts": {}}
    assert not hold_against(name, contents, "x.pth")
    lost = sorted(entries)[5]
    state = contents["state_dict"]
    assert isinstance(state, dict)
    state.pop(lost, None)
    state.pop(f"module.{lost}", None)
    mismatch = hold_against(name, contents, "x.pth")
    assert mismatch.missing == (lost,)
    assert not mismatch.unexpected
    assert not mismatch.misshaped


def test_an_e4s_without_its_average_code_lacks_it() -> None:
    entries = expected_entries("e4s")
    del entries["latent_avg"]
    assert hold_against("e4s", {"state_dict": entries}, "x.pt").missing == ("latent_avg",)


def test_all_entries_of_a_file_may_lie_side_by_side() -> None:
    # As in a conversion to safetensors.
    assert not hold_against("e4s", expected_entries("e4s"), "x.safetensors")
