from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs import encode_plan
from ray_jobs.cli import app
from ray_jobs.encode import EncodeConfig
from ray_jobs.encode_plan import Probe, plan_encoding
from s3pot import yaml12
from s3pot.images import write_png
from tests.stand_ins import textured_face


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        write_png(tmp_path / "photos" / f"{number}.png", textured_face(number)[0])
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_a_dry_run_probes_and_writes_nothing(random_weights: Path, photos: Path, tmp_path: Path) -> None:
    words = [f"input={photos}", f"store={tmp_path / 'store'}", "chain.alignment=none", "batch_size=2"]
    result = CliRunner().invoke(app, ["encode", *words, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert yaml12.load(result.stdout)["batch_size"] == 2, "the estimate is a comment"
    lines = [line for line in result.stdout.splitlines() if line.startswith("#")]
    assert lines[0].startswith("# 4 images (")
    assert lines[0].endswith("to read), 0 of them in the store already")
    assert lines[1].startswith("# 4 to encode: ")
    assert lines[1].endswith("2 shards")
    assert "device-hours on cpu" in lines[2]
    assert "probe of 4 images, 1 failed" in lines[2]
    assert not (tmp_path / "store").exists()


def test_the_numbers_are_those_of_the_probe(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "many.csv"
    listing.write_text("id,path\n" + "".join(f"{number},photos/0.png\n" for number in range(7200)))
    tried: list[list[str]] = []

    def known(config: EncodeConfig, items: list[dict[str, str]]) -> Probe:
        tried.append([item["id"] for item in items])
        return Probe(images=len(items), failed=0, seconds=0.5, bytes=300_000.0)

    monkeypatch.setattr(encode_plan, "probe", known)
    lines = plan_encoding(EncodeConfig(input=str(listing), store=tmp_path / "store"))
    size = (photos / "0.png").stat().st_size
    assert lines[0] == f"7,200 images ({7200 * size / 1e6:.3g} MB to read), 0 of them in the store already"
    assert lines[1] == "7,200 to encode: 2.16 GB in the store (300 kB per image), 900 shards"
    assert lines[2].startswith("about 1 device-hours on cpu")
    assert len(tried[0]) == 20
    assert (tried[0][0], tried[0][-1]) == ("0", "7199"), "from all over the listing"


def test_without_images_there_is_no_estimate(tmp_path: Path) -> None:
    [line] = plan_encoding(EncodeConfig(input=str(tmp_path / "nowhere"), store=tmp_path / "store"))
    assert line.startswith("no estimate: ")
    assert "nowhere" in line
