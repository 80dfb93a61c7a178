"""Masks of a sweep's cell, predicted for a page: the same as evaluation gives."""

from pathlib import Path

import numpy as np
import pytest

from analysis.cell_masks import evaluated_store, write_cell_masks
from analysis.sweep_report import write_sweep_report
from analysis.sweep_results import Sweep, read_sweep
from s3pot import yaml12
from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig, load_prefix
from s3pot.evaluation import evaluate_store, mask_path
from s3pot.head.head_file import load_reweighter
from s3pot.images import decode_png, write_png
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore
from tests.analysis.fake_sweep import cell_id, write_sweep
from tests.analysis.html_page import read_page
from tests.stand_ins import small_reweighter, textured_face, write_reweighter

LAM = "objective.lam"
CELLS = [{LAM: 0.1}, {LAM: 1.0}]
IDS = ("000", "001")


@pytest.fixture(scope="module")
def store(random_weight_files: Path, tmp_path_factory: pytest.TempPathFactory) -> PromptStore:
    """Two faces, encoded with random weights."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3POT_WEIGHTS", str(random_weight_files))
        chain = ChainConfig(alignment="none")
        store = PromptStore.create(folder / "store", chain)
        for number, name in enumerate(IDS):
            write_png(folder / f"{name}.png", textured_face(number)[0])
        items = [{"id": name, "path": str(folder / f"{name}.png"), "kind": "hands"} for name in IDS]
        store.append(encode_images(load_prefix(chain), items, store.root, FaceAligner("none")))
    return store


@pytest.fixture
def sweep(tmp_path: Path, store: PromptStore, random_weights: Path) -> Sweep:
    """Two cells of two seeds; the first cell has a head that does something, the second none."""
    sweep = read_sweep(write_sweep(tmp_path / "sweep", {LAM: [0.1, 1.0]}, lambda c: 0.3 + c[LAM] / 10, seeds=(1, 0)))
    for trial, row in sweep.trials.iterrows():
        folder = sweep.folder / "trials" / str(trial)
        (folder / "trial.yaml").write_text(yaml12.dump({"evaluate_store": str(store.root)}))
        if row["cell"] == cell_id(CELLS[0]):
            head = small_reweighter(128, seed=int(row["seed"]), trained_looking=True)
            write_reweighter(head, folder / "reweighter.safetensors")
    return sweep


def masks_of(folder: Path) -> list[np.ndarray]:
    return [decode_png(mask_path(folder, name).read_bytes(), name) > 127 for name in IDS]


def test_masks_are_those_of_the_first_seed(sweep: Sweep, store: PromptStore, tmp_path: Path) -> None:
    cell = cell_id(CELLS[0])
    write_cell_masks(sweep, cell, IDS, tmp_path / "masks")
    trials = sweep.trials[(sweep.trials["cell"] == cell) & (sweep.trials["seed"] == 0)]
    head = sweep.folder / "trials" / str(trials.index[0]) / "reweighter.safetensors"
    sam = store.load_sam("cpu")
    expected: dict[str, np.ndarray] = {}
    evaluate_store(store, sam, load_reweighter(head, sam.device).eval(), on_mask=expected.__setitem__)
    for mask, name in zip(masks_of(tmp_path / "masks"), IDS, strict=True):
        np.testing.assert_array_equal(mask, expected[name])


def test_a_cell_without_head_decodes_its_prompts(sweep: Sweep, store: PromptStore, tmp_path: Path) -> None:
    write_cell_masks(sweep, cell_id(CELLS[1]), IDS, tmp_path / "masks")
    expected: dict[str, np.ndarray] = {}
    evaluate_store(store, store.load_sam("cpu"), None, on_mask=expected.__setitem__)
    for mask, name in zip(masks_of(tmp_path / "masks"), IDS, strict=True):
        np.testing.assert_array_equal(mask, expected[name])


def test_a_store_that_is_gone_costs_the_pictures_only(sweep: Sweep, tmp_path: Path) -> None:
    cell = cell_id(CELLS[0])
    for path in sweep.folder.glob("trials/*/trial.yaml"):
        path.write_text(yaml12.dump({"evaluate_store": str(tmp_path / "gone")}))
    assert evaluated_store(sweep, cell) is None
    write_cell_masks(sweep, cell, IDS, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
    page = read_page(write_sweep_report(sweep.folder, tmp_path / "out" / "report.html", images=True))
    assert page.all("article") == []
    assert "This page was made without pictures of faces" in page.text


def test_other_weights_draw_no_pictures(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.stand_ins import write_random_weights

    other = write_random_weights(tmp_path / "other")
    write_reweighter(small_reweighter(128), other / "nano_sam.safetensors")
    monkeypatch.setenv("S3POT_WEIGHTS", str(other))
    assert evaluated_store(sweep, cell_id(CELLS[0])) is None


def test_pictures_of_both_cells_stand_side_by_side(sweep: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "out" / "report.html"
    page = read_page(write_sweep_report(sweep.folder, out, images=True, pictures=24))
    articles = page.all("article")
    assert len(articles) == 24
    with_pictures = [image["alt"] for image in page.all("img") if "occlusion predicted by" in str(image["alt"])]
    assert sorted(alt.split(",")[0] for alt in with_pictures if alt) == sorted(
        f"{name}: occlusion predicted by {label}" for name in IDS for label in ("λ 0.1", "λ 1")
    )
    assert "masks those of the first seed" in page.text
    assert [path.name for path in out.parent.iterdir() if path.is_dir()] == ["figures"], "masks do not stay"
