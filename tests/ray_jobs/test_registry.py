"""Heads in a real registry on SQLite."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from ray_jobs.registry import NAME, LoadConfig, LogConfig, app, load_head, log_head
from ray_jobs.tracking import tracking_uri
from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import file_hash
from s3pot.head.head_file import save_head
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from tests.stand_ins import small_reweighter, write_reweighter

OTHER = ChainConfig(prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))
pytestmark = pytest.mark.usefixtures("random_weights")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all: its migrations take seconds."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def head(tmp_path: Path) -> Path:
    path = tmp_path / "reweighter.safetensors"
    save_head(small_reweighter(128, trained_looking=True), path, ChainConfig(), {})
    return path


def test_a_head_comes_back_as_it_was(head: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    version = log_head(LogConfig(head=head, runs=runs))
    assert version.tags["prefix_identity"] == prefix_identity(prefix_description(ChainConfig()))
    assert version.tags["head_hash"] == file_hash(head)
    # Another working size and cropping are no other prefix.
    chain = ChainConfig(alignment="none", size=512)
    out = tmp_path / "deep" / "fetched.safetensors"
    config = LoadConfig(version=str(version.version), out=out, chain=chain, runs=runs)
    assert load_head(config) == out
    assert out.read_bytes() == head.read_bytes()
    assert not (tmp_path / "mlflow.db").exists(), "some part of MLflow went to its default place"


def test_every_head_is_a_version_of_its_own_and_has_aliases(head: Path, runs: Path, tmp_path: Path) -> None:
    first = log_head(LogConfig(head=head, runs=runs))
    other = tmp_path / "other.safetensors"
    save_head(small_reweighter(128, seed=5), other, ChainConfig(), {})
    second = log_head(LogConfig(head=other, runs=runs))
    assert int(second.version) == int(first.version) + 1
    MlflowClient(tracking_uri=tracking_uri(runs)).set_registered_model_alias(NAME, "best", str(second.version))
    out = tmp_path / "fetched.safetensors"
    load_head(LoadConfig(version="best", out=out, runs=runs))
    assert out.read_bytes() == other.read_bytes()
    load_head(LoadConfig(version=str(first.version), out=out, runs=runs))
    assert out.read_bytes() == head.read_bytes()


def test_a_head_for_another_prefix_is_refused_and_nothing_written(head: Path, runs: Path, tmp_path: Path) -> None:
    version = log_head(LogConfig(head=head, runs=runs))
    out = tmp_path / "out" / "fetched.safetensors"
    with pytest.raises(WeightsError, match=r"selector\.kind greedy there and otsu here"):
        load_head(LoadConfig(version=str(version.version), out=out, chain=OTHER, runs=runs))
    assert not out.parent.exists()


def test_a_head_that_does_not_name_its_prefix_is_not_logged(runs: Path, tmp_path: Path) -> None:
    old = write_reweighter(small_reweighter(128), tmp_path / "old.safetensors")
    with pytest.raises(WeightsError, match=r"old\.safetensors: does not say which frozen prefix it is for"):
        log_head(LogConfig(head=old, runs=runs))


@pytest.mark.parametrize("version", ["999", "nobody"])
def test_a_version_that_is_not_there(version: str, head: Path, runs: Path, tmp_path: Path) -> None:
    log_head(LogConfig(head=head, runs=runs))
    with pytest.raises(FileNotFoundError, match=f"{NAME} {version}: not in the registry at sqlite"):
        load_head(LoadConfig(version=version, out=tmp_path / "out.safetensors", runs=runs))


def test_the_command_line(head: Path, runs: Path, tmp_path: Path) -> None:
    logged = CliRunner().invoke(app, ["log", f"head={head}", f"runs={runs}", "name=from-the-command-line"])
    assert logged.exit_code == 0, logged.output
    assert "from-the-command-line version 1: prefix" in logged.output
    words = ["load", "name=from-the-command-line", f"runs={runs}", f"out={tmp_path / 'out.safetensors'}"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "out.safetensors").read_bytes() == head.read_bytes()
    refused = CliRunner().invoke(app, [*words, "chain.prefix.selector.kind=otsu"])
    assert refused.exit_code == 2
    assert "trained for another frozen prefix" in refused.output


def test_an_alias_is_given_when_asked_for(head: Path, runs: Path, tmp_path: Path) -> None:
    version = log_head(LogConfig(head=head, alias="candidate", runs=runs))
    found = MlflowClient(tracking_uri=tracking_uri(runs)).get_model_version_by_alias(NAME, "candidate")
    assert int(found.version) == int(version.version)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chain.faces=all"], "leave out faces=all"),
        (["chain.sam=vit_b"], "no embedded one for vit_b"),
        (["chain.alignment=landmarks", "chain.landmarks=a.csv"], "belong to images with names"),
    ],
)
def test_a_segmenter_that_cannot_be_a_model(words: list[str], message: str, runs: Path) -> None:
    result = CliRunner().invoke(app, ["log-segmenter", f"runs={runs}", *words])
    assert result.exit_code == 2
    assert message in result.output
