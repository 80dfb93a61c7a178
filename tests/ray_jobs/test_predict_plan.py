from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs import predict_plan
from ray_jobs.cli import app
from ray_jobs.predict import PredictConfig
from ray_jobs.predict_plan import Probe, plan_prediction
from ray_jobs.predict_stages import PredictWork
from s3pot import yaml12
from s3pot.images import write_png
from tests.stand_ins import textured_face


@pytest.fixture
def photos(tmp_path: Path, random_weights: Path) -> Path:
    for number in range(3):
        write_png(tmp_path / "photos" / f"{number}.png", textured_face(number)[0])
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_a_dry_run_probes_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    words = [str(photos), f"out={tmp_path / 'out'}", "chain.alignment=none", "batch_size=2", "per_image=5"]
    result = CliRunner().invoke(app, ["predict", *words, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert yaml12.load(result.stdout)["batch_size"] == 2, "the estimate is a comment"
    lines = [line for line in result.stdout.splitlines() if line.startswith("#")]
    assert lines[0].startswith("# 4 photographs (")
    assert lines[0].endswith("to read), 0 of them done already")
    assert lines[1].startswith("# 4 to predict, with about 3 faces; ")
    assert "device-hours on cpu" in lines[2]
    assert "probe of 4 photographs, 1 failed" in lines[2]
    assert lines[3].startswith("# then at most 5 faces")
    assert not (tmp_path / "out").exists()


def test_the_numbers_are_those_of_the_probe(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "many.csv"
    listing.write_text("id,path\n" + "".join(f"{number},photos/0.png\n" for number in range(7200)))

    def known(work: PredictWork, items: list[dict[str, str]]) -> Probe:
        return Probe(photographs=len(items), failed=0, faces=1.5, seconds=0.5, bytes=3000.0)

    monkeypatch.setattr(predict_plan, "probe", known)
    lines = plan_prediction(PredictConfig(input=str(listing), out=str(tmp_path / "out")))
    assert lines[0].startswith("7,200 photographs (")
    assert lines[1] == "7,200 to predict, with about 10,800 faces; 21.6 MB to write"
    assert lines[2].startswith("about 1 device-hours on cpu")


def test_without_photographs_there_is_no_estimate(tmp_path: Path) -> None:
    [line] = plan_prediction(PredictConfig(input=str(tmp_path / "nowhere"), out=str(tmp_path / "out")))
    assert line.startswith("no estimate: ")
    assert "nowhere" in line
