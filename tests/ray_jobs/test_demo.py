"""The demo end to end, short: every stage runs, the page and the picture are there, the table is labelled."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs import demo
from s3pot.composite.astronaut import astronaut_crops
from s3pot.images import write_png


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, ray_cluster: dict[str, object]) -> CliRunner:
    monkeypatch.setattr(demo, "TRAIN_PICTURES", 3)
    monkeypatch.setattr(demo, "HELD_OUT_PICTURES", 3)
    monkeypatch.setattr(demo, "HELD_OUT_CLEAN", 1)
    return CliRunner()


def _invoke(runner: CliRunner, arguments: list[str]) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(demo.main)
    result = runner.invoke(app, [*arguments, "--epochs", "1", "--steps", "2"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_astronaut(short: CliRunner, tmp_path: Path) -> None:
    code, output = _invoke(short, ["--runs", str(tmp_path)])
    assert code == 0, output
    assert demo.NOTE in output
    for name in ("without reweighter", "shipped head", "demo head", "per image (transductive)"):
        assert name in output
    assert "2 held-out composites and 1 clean crops" in output
    page = (tmp_path / "demo" / "report.html").read_text()
    assert demo.NOTE in page
    assert page.count("<img") > 10
    assert (tmp_path / "demo" / "chain.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "mlflow.db").is_file()


def test_own_pictures_with_a_bad_one_among_them(short: CliRunner, tmp_path: Path) -> None:
    write_png(tmp_path / "photos" / "one.png", astronaut_crops(1)[0])
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    code, output = _invoke(short, ["--runs", str(tmp_path / "runs"), "--images", str(tmp_path / "photos")])
    assert code == 0, output
    assert "without truth: look at the report" in output
    assert "broken.jpg" in (tmp_path / "runs" / "demo-images" / "report.html").read_text()


def test_an_empty_folder_is_one_sentence(short: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    code, output = _invoke(short, ["--runs", str(tmp_path / "runs"), "--images", str(tmp_path / "photos")])
    assert code == 2
    assert "photos" in output
    assert "Traceback" not in output
