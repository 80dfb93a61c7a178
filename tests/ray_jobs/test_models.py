import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from ray_jobs.cli import app
from ray_jobs.models import progress_text
from s3pot.checkpoints import catalogue
from s3pot.checkpoints.catalogue import Checkpoint, CheckpointName, expected_entries
from s3pot.embedded import WEIGHT_FILES, file_hash
from tests.file_server import FileServer, serving
from tests.parity import description, drawn

CONTENT = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that S3POT_WEIGHTS names."""
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def change(monkeypatch: pytest.MonkeyPatch, name: CheckpointName, **values: str | int | None) -> None:
    """Change what is known of a checkpoint."""
    entries = tuple(replace(entry, **values) if entry.name == name else entry for entry in catalogue.CHECKPOINTS)
    monkeypatch.setattr(catalogue, "CHECKPOINTS", entries)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server from which vit_b is pulled."""
    with serving(CONTENT) as started:
        change(monkeypatch, "vit_b", url=started.url, sha256=hashlib.sha256(CONTENT).hexdigest())
        yield started


def small(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the same names and shapes that take no space in a file: every tensor repeats one number."""
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in entries.items()}


@pytest.fixture
def bisenet(tmp_path: Path) -> Path:
    """A file that fits bisenet under a name of its own."""
    torch.save(small(expected_entries("bisenet")), tmp_path / "parser.pth")
    return tmp_path / "parser.pth"


def rewritten(path: Path, **entries: Tensor | None) -> Path:
    """Change entries of a file; None takes one out."""
    state = torch.load(path, weights_only=True) | entries
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return path


# list


def test_the_list_names_every_model(folder: Path, random_weight_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(random_weight_files))
    result = run("list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if line}
    for entry in catalogue.CHECKPOINTS:
        assert entry.licence in lines[entry.name]
        assert (f"s3pot models pull {entry.name}" if entry.url else entry.page) in lines[entry.name]
        assert entry.file not in lines[entry.name], "it is not installed"
    for part in ("locator", "parser", "nano_sam", "generator", "reweighter"):
        assert file_hash(random_weight_files / WEIGHT_FILES[part]) in lines[part]
        assert "WEIGHTS_LICENSE" in lines[part]
    assert str(random_weight_files) in result.output


def test_the_list_for_machines(folder: Path) -> None:
    (folder / "sam_vit_l_0b3195.pth").touch()
    rows = {row["name"]: row for row in json.loads(run("list", "--json").output)}
    assert {name for name, row in rows.items() if row["kind"] == "official"} == set(get_args(CheckpointName))
    assert {name for name, row in rows.items() if row["kind"] == "embedded"} == WEIGHT_FILES.keys()
    assert rows["vit_l"]["installed"] == str(folder / "sam_vit_l_0b3195.pth")
    assert rows["vit_b"]["installed"] is None
    assert rows["vit_b"]["config_key"] == "chain.sam_checkpoint"
    assert rows["vit_b"]["sha256"].startswith("ec2df627")
    # A folder of checkpoints hides no embedded model.
    assert Path(rows["parser"]["installed"]).name == "face_parser.safetensors"
    assert rows["parser"]["sha256"] == hashlib.sha256(Path(rows["parser"]["installed"]).read_bytes()).hexdigest()


# check


@pytest.mark.parametrize("arguments", [(), ("--as", "bisenet")])
def test_a_file_that_fits(bisenet: Path, arguments: tuple[str, ...]) -> None:
    result = run("check", bisenet, *arguments)
    assert result.exit_code == 0, result.output
    assert f"{bisenet}: fits bisenet, all 191 entries" in result.output


def test_the_released_file_is_told_from_others(bisenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hashlib.sha256(bisenet.read_bytes()).hexdigest()
    assert f"SHA-256 {found}: not the released file, which has 468e13ca" in run("check", bisenet).output
    change(monkeypatch, "bisenet", sha256=found)
    assert f"SHA-256 {found}: the released file" in run("check", bisenet).output
    change(monkeypatch, "bisenet", sha256=None)
    assert "could not be compared" in run("check", bisenet).output


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("ffm.conv1.weight", None, "missing     ffm.conv1.weight"),
        ("extra.weight", torch.zeros(2), "unexpected  extra.weight"),
        ("conv_out.conv_out.weight", torch.zeros(2), "shape       conv_out.conv_out.weight: expected (19, "),
    ],
)
def test_one_entry_that_differs_is_named(bisenet: Path, entry: str, value: Tensor | None, words: str) -> None:
    result = run("check", rewritten(bisenet, **{entry: value}))
    assert result.exit_code == 1
    assert "fits no checkpoint; bisenet comes closest" in result.output
    assert words in result.output
    assert sum(line.startswith("  ") for line in result.output.splitlines()) == 1


def test_long_lists_are_cut_unless_asked_for(bisenet: Path) -> None:
    lost = [name for name in expected_entries("bisenet") if name.startswith("conv_out")]
    assert len(lost) > 12
    rewritten(bisenet, **dict.fromkeys(lost))
    short, whole = run("check", bisenet), run("check", bisenet, "--all")
    assert short.exit_code == whole.exit_code == 1
    assert f"{len(lost)} missing, 0 unexpected, 0 of another shape" in short.output
    assert sum(name in short.output for name in lost) == 10
    assert f"... and {len(lost) - 10} more; --all names them" in short.output
    assert all(f"missing     {name}\n" in whole.output for name in lost)
    assert "more" not in whole.output


def test_the_file_name_says_what_it_should_be(bisenet: Path, tmp_path: Path) -> None:
    misnamed = bisenet.rename(tmp_path / "sam_vit_b_01ec64.pth")
    result = run("check", misnamed)
    assert result.exit_code == 1
    assert "does not fit vit_b" in result.output
    assert "It fits bisenet, whose file is called 79999_iter.pth" in result.output
    assert run("check", misnamed, "--as", "bisenet").exit_code == 0


@pytest.mark.parametrize("name", ["vit_b", "vit_h"])
def test_a_sam_fits(tmp_path: Path, name: CheckpointName) -> None:
    torch.save(small(expected_entries(name)), tmp_path / "sam.pth")
    result = run("check", tmp_path / "sam.pth")
    assert result.exit_code == 0, result.output
    assert f"fits {name}," in result.output


@pytest.mark.parametrize("lost", [None, "latent_avg", "G.conv1.noise.weight"])
def test_an_e4s_as_training_leaves_it(tmp_path: Path, lost: str | None) -> None:
    entries = small(expected_entries("e4s"))
    if lost is not None:
        del entries[lost]
    beside = {"latent_avg": entries.pop("latent_avg")} if "latent_avg" in entries else {}
    state = {f"module.{name}": value for name, value in entries.items()}
    torch.save({"state_dict": state, "opts": {"lr": 0.1}, **beside}, tmp_path / "iteration_300000.pt")
    result = run("check", tmp_path / "iteration_300000.pt")
    assert result.exit_code == (0 if lost is None else 1)
    assert ("fits e4s, all 345 entries" if lost is None else f"missing     {lost}") in result.output


@pytest.mark.parametrize("name", ["bisenet", "e4s"])
def test_what_the_facts_describe_fits(shared_parity: Path, tmp_path: Path, name: CheckpointName) -> None:
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    state = {
        entry["key"]: torch.zeros((), dtype=dtypes[entry["dtype"]]).expand(entry["shape"])
        for entry in description(shared_parity / f"{name}_state.json")
    }
    average = drawn({"key": "latent_avg", "shape": (18, 512), "init": "normal", "mean": 0.0, "std": 0.5})
    torch.save({"state_dict": state, "latent_avg": average} if name == "e4s" else state, tmp_path / "x.pth")
    result = run("check", tmp_path / "x.pth")
    assert result.exit_code == 0, result.output
    assert f"fits {name}," in result.output


def test_an_embedded_model_is_recognised_by_its_name(random_weight_files: Path) -> None:
    result = run("check", random_weight_files / "face_parser.safetensors")
    assert result.exit_code == 1
    assert "an embedded model" in result.output


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_what_cannot_be_read_exits_with_2(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    result = run("check", tmp_path / "x.pth")
    assert result.exit_code == 2
    assert f"error: {tmp_path / 'x.pth'}: " in result.output


# path


def test_the_path_is_printed_alone(folder: Path) -> None:
    (folder / "79999_iter.pth").touch()
    result = run("path", "bisenet")
    assert result.exit_code == 0
    assert result.stdout == f"{folder / '79999_iter.pth'}\n"


def test_a_missing_checkpoint_has_no_path(folder: Path) -> None:
    result = run("path", "vit_h")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert str(folder / "sam_vit_h_4b8939.pth") in result.stderr
    assert "s3pot models pull vit_h" in result.stderr


def test_an_unknown_name_is_a_usage_error() -> None:
    result = run("path", "vit_x")
    assert result.exit_code == 2
    assert "vit_b" in result.stderr


# pull


def test_pull_puts_the_file_where_it_is_found(server: FileServer, folder: Path) -> None:
    result = run("pull", "vit_b")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder / 'sam_vit_b_01ec64.pth'}\n"
    assert (folder / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT
    assert "100 % of 0.5 MB" in result.stderr
    assert "Apache-2.0" in result.stderr
    assert run("path", "vit_b").exit_code == 0
    assert run("pull", "vit_b").exit_code == 0, "it is there already"
    assert server.asked == [None]


def test_pull_to_a_folder_says_how_to_name_it(server: FileServer, folder: Path, tmp_path: Path) -> None:
    result = run("pull", "vit_b", "--to", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "mine" / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT
    assert f"chain.sam_checkpoint={tmp_path / 'mine' / 'sam_vit_b_01ec64.pth'}" in result.stderr
    assert list(folder.iterdir()) == []


def test_pull_goes_on_after_a_cut(server: FileServer, folder: Path) -> None:
    server.cuts, server.cut_after = 1, 100_000
    assert run("pull", "vit_b").exit_code == 0
    assert server.asked == [None, "bytes=100000-"]
    assert (folder / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "answered 404"), (None, "another file came")])
def test_pull_that_fails_exits_with_1(server: FileServer, folder: Path, status: int | None, words: str) -> None:
    server.status, server.content = status, b"something else"
    result = run("pull", "vit_b")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert "Its authors publish it at https://github.com/facebookresearch/segment-anything" in result.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("entry", [entry for entry in catalogue.CHECKPOINTS if entry.url is None], ids=lambda e: e.name)
def test_what_wants_a_browser_is_not_pretended(entry: Checkpoint, folder: Path) -> None:
    result = run("pull", entry.name)
    assert result.exit_code == 1
    assert f"by hand from {entry.page} and put it at {folder / entry.file}" in result.stderr


def test_progress_tells_share_rate_and_time_left() -> None:
    assert progress_text(125_000_000, 375_000_000, 2e6) == "33 % of 375.0 MB, 2.0 MB/s, 2 min 05 s left"
    assert progress_text(2_500_000_000, 2_560_000_000, 1e6) == "97 % of 2.56 GB, 1.0 MB/s, 1 min 00 s left"
    assert progress_text(370_000_000, 375_000_000, 1e6) == "98 % of 375.0 MB, 1.0 MB/s, 5 s left"
    assert progress_text(375_000_000, 375_000_000, 1e6) == "100 % of 375.0 MB, 1.0 MB/s"
    assert progress_text(0, 375_000_000, 0.0) == "0 % of 375.0 MB, 0.0 MB/s"
    assert progress_text(5_000_000, None, 1e6) == "5.0 MB, 1.0 MB/s"


@pytest.mark.parametrize("verb", ["list", "check", "path", "pull"])
def test_every_verb_has_help(verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output
