from pathlib import Path

import pandas as pd
import pytest

from ray_jobs.sweep_config import SweepConfig, plan_cells
from ray_jobs.sweep_stores import ImageSet, plan_stores, read_images
from s3pot.chain import chain_identity
from s3pot.config import ConfigError, parse

pytestmark = pytest.mark.usefixtures("random_weights")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "dev"
    folder.mkdir(parents=True)
    for number in range(40):
        (folder / f"{number}.png").write_bytes(f"picture {number}".encode())
    rows = [{"id": f"{number:02d}", "path": f"{number}.png"} for number in range(40)]
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")
    return tmp_path / "data"


def test_some_images_are_a_part_of_more_whatever_the_order(data: Path) -> None:
    ten, twenty = (read_images(data, "dev", number).ids for number in (10, 20))
    assert (len(ten), len(twenty), len(read_images(data, "dev", 0).ids)) == (10, 20, 40)
    assert set(ten) < set(twenty)
    assert ten != tuple(f"{number:02d}" for number in range(10)), "a manifest is sorted by kind: not its first images"
    manifest = data / "dev" / "manifest.parquet"
    pd.read_parquet(manifest).iloc[::-1].to_parquet(manifest)
    assert read_images(data, "dev", 10).ids == ten


def test_the_identity_is_of_ids_and_contents(data: Path) -> None:
    before = read_images(data, "dev", 0).identity
    assert read_images(data, "dev", 0).identity == before
    assert read_images(data, "dev", 39).identity != before
    (data / "dev" / "7.png").write_bytes(b"another picture")
    assert read_images(data, "dev", 0).identity != before


def test_too_many_and_none_at_all(data: Path) -> None:
    with pytest.raises(ConfigError, match="holds 40 images, 41 are wanted"):
        read_images(data, "dev", 41)
    with pytest.raises(FileNotFoundError, match="make it with `s3pot data composite`"):
        read_images(data, "val", 0)


def _needed(tmp_path: Path, **values: object) -> dict[str, str | None]:
    """Stores of a sweep by name, each with the name of the one it is drawn from."""
    config = parse(SweepConfig, {"title": "x", "stores": str(tmp_path)} | values, where="test")
    items = pd.DataFrame({"id": ["a"], "path": ["a.png"]})
    sets = (ImageSet(name="head", items=items), ImageSet(name="dev", items=items))
    plan = plan_cells(config)
    stores = plan_stores(config, plan, *sets)
    for cell in plan.cells:
        root = stores.root(sets[1], cell.settings.chain)
        assert root.name == f"dev-{chain_identity(cell.settings.chain)}"
    return {store.root.name: None if store.source is None else store.source.name for store in stores.stores}


def test_one_encoding_serves_all_that_comes_after_the_encoder(tmp_path: Path) -> None:
    axes = {
        "chain.prefix.feature_enhancement": [False, True],
        "chain.prefix.selector.kind": ["greedy", "otsu"],
        "chain.prefix.most_prompts": [4, None],
    }
    found = _needed(tmp_path, grid=axes)
    encoded = [name for name, source in found.items() if source is None]
    assert sorted(name.partition("-")[0] for name in encoded) == ["dev", "head"]
    assert len(found) == 16
    for name, source in found.items():
        assert source in (None, next(other for other in encoded if other.partition("-")[0] == name.partition("-")[0]))


def test_the_tokens_are_encoded_even_if_no_cell_uses_them_as_they_are(tmp_path: Path) -> None:
    found = _needed(tmp_path, grid={"chain.prefix.feature_enhancement": [True]})
    assert sorted(source is None for source in found.values()) == [False, False, True, True]
    assert [source is None for source in found.values()] == [True, True, False, False], "sources come first"


def test_what_changes_the_reference_is_encoded(tmp_path: Path) -> None:
    for grid in (
        {"chain.prefix.face_completion": ["none", "fill", "hull", "parser"]},
        {"chain.prefix.reference_degradation": [0.0, 0.2, 0.5, 1.0]},
    ):
        assert list(_needed(tmp_path, grid=grid).values()) == [None] * 8


def test_settings_of_the_head_need_no_stores_of_their_own(tmp_path: Path) -> None:
    assert len(_needed(tmp_path, grid={"objective.lam": [0.1, 0.2, 0.5], "head.num_layers": [1, 2]})) == 2


def test_without_training_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    found = _needed(tmp_path, grid={"reweighter": ["off"], "chain.prefix.selector.kind": ["greedy", "otsu"]})
    assert {name.partition("-")[0] for name in found} == {"dev"}
