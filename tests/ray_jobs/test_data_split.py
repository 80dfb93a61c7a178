"""Splitting manifests, and pictures that leak from one split to another."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_jobs.data_split import SplitConfig, plan, split_data
from ray_jobs.job_cli import PartlyFailed, resolve
from s3pot.config import ConfigError
from s3pot.data.manifest import FILE, read_manifest, write_manifest
from tests.data.test_near_duplicates import scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures in two manifests; "a03" is a smaller copy of "b02"."""
    for place, letter in enumerate("ab"):
        rows: list[dict[str, Any]] = []
        for number in range(6):
            path = tmp_path / f"{letter}{number:02d}.png"
            picture = scene(100 if (letter, number) in (("a", 3), ("b", 2)) else 10 * place + number, 96)
            (picture.resize((70, 70)) if letter == "a" else picture).save(path)
            rows.append({"id": path.stem, "path": path, "source": "ffhq", "identity": f"p{number % 3}"})
        write_manifest(tmp_path / letter, rows)
    return tmp_path


def config(folder: Path, **changes: Any) -> SplitConfig:
    settings: dict[str, Any] = {"rule": "counts", "counts": {"val": 4}, "rest": "train"} | changes
    return SplitConfig(manifests=(folder / "a" / FILE, folder / "b" / FILE), out=folder / "out", **settings)


def leaks(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "near_duplicates.csv").open() as opened:
        return list(csv.DictReader(opened))


def seed_that(folder: Path, separates: bool) -> int:
    for seed in range(50):
        split = split_data(config(folder, seed=seed, near_duplicates="off")).set_index("id")["split"]
        if (split["a03"] != split["b02"]) == separates:
            return seed
    raise AssertionError("no seed does")


def test_a_copy_in_another_split_is_listed_and_fails(folder: Path) -> None:
    seed = seed_that(folder, separates=True)
    with pytest.raises(PartlyFailed, match=r"1 pairs of near-duplicates lie in different splits.*a03 .* and b02"):
        split_data(config(folder, seed=seed))
    (pair,) = leaks(folder)
    assert (pair["id"], pair["other_id"]) == ("a03", "b02")
    assert pair["split"] != pair["other_split"]
    assert int(pair["bits"]) <= 32
    assert read_manifest(folder / "out" / FILE)["split"].tolist().count("val") == 4, "the split is there to look at"


def test_a_copy_in_the_same_split_is_no_leak(folder: Path) -> None:
    split_data(config(folder, seed=seed_that(folder, separates=False)))
    assert leaks(folder) == []


def test_copies_can_be_kept_together(folder: Path) -> None:
    for seed in range(4):
        split = split_data(config(folder, seed=seed, near_duplicates="join")).set_index("id")["split"]
        assert split["a03"] == split["b02"]


def test_splits_of_others_are_checked(folder: Path) -> None:
    split_data(config(folder, near_duplicates="off"))
    given = read_manifest(folder / "out" / FILE)
    given["split"] = ["left" if name.startswith("a") else "right" for name in given["id"]]
    write_manifest(folder / "given", given.to_dict("records"))
    check = SplitConfig(manifests=(folder / "given" / FILE,), out=folder / "out", rule="keep")
    with pytest.raises(PartlyFailed, match="1 pairs"):
        split_data(check)


def test_people_stay_together(folder: Path) -> None:
    made = split_data(config(folder, by="identity", near_duplicates="off"))
    assert made.groupby("identity")["split"].nunique().tolist() == [1, 1, 1]
    assert made["split"].tolist().count("val") == 4


def test_a_picture_that_cannot_be_read_is_said_so(folder: Path) -> None:
    (folder / "a00.png").write_bytes(b"no picture")
    with pytest.raises(PartlyFailed, match=r"1 pictures could not be checked, first: .*a00\.png"):
        split_data(config(folder, seed=seed_that(folder, separates=False)))
    assert len(read_manifest(folder / "out" / FILE)) == 12


def test_what_cannot_be_split(folder: Path) -> None:
    with pytest.raises(ConfigError, match="counts of 40 pictures"):
        split_data(config(folder, counts={"val": 40}, near_duplicates="off"))
    with pytest.raises(ConfigError, match="by=person"):
        split_data(config(folder, by="person", near_duplicates="off"))
    with pytest.raises(ConfigError, match="stands in"):
        split_data(SplitConfig(manifests=(folder / "a" / FILE,) * 2, out=folder / "out", shares={"a": 1.0}))
    for changes, message in (({"distance": 256}, "distance"), ({"workers": -1}, "workers")):
        with pytest.raises(ValueError, match=message):
            config(folder, **changes)
    with pytest.raises(ValueError, match="manifests must name"):
        SplitConfig(manifests=(), out=folder, shares={"a": 1.0})
    with pytest.raises(ValueError, match="join moves pictures"):
        SplitConfig(manifests=(folder,), out=folder, rule="keep", near_duplicates="join")


def test_a_dry_run_counts_and_writes_nothing(folder: Path) -> None:
    assert plan(config(folder)) == ["train: 8 ffhq, val: 4 ffhq"]
    assert (
        "cannot be read as Parquet" in plan(SplitConfig(manifests=(folder / "gone",), out=folder, shares={"a": 1.0}))[0]
    )
    assert not (folder / "out").exists()


def test_shares_are_set_on_the_command_line() -> None:
    words = ["manifests=[a.parquet, b.parquet]", "out=o", "shares.train=0.75", "shares.val=0.25"]
    made = resolve(SplitConfig, words, {})
    assert (made.shares, len(made.manifests)) == ({"train": 0.75, "val": 0.25}, 2)


def test_the_paper_s_rule(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    for source, count in (("ffhq", 110), ("celebamask_hq", 100)):
        rows = [{"id": f"{source}/{number}", "path": tmp_path / "x.png", "source": source} for number in range(count)]
        write_manifest(tmp_path / source, rows)
    manifests = tuple(tmp_path / source / FILE for source in ("ffhq", "celebamask_hq"))
    made = split_data(SplitConfig(manifests=manifests, out=tmp_path / "out", rule="paper", near_duplicates="off"))
    assert made["split"].value_counts().to_dict() == {"val": 200, "train": 6, "test": 4}
