"""Importing collections of every format: masks, manifest, and what happens to what is broken."""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ray_jobs.data_import import ImportConfig, command, import_data, plan
from ray_jobs.encode_inputs import read_items
from ray_jobs.job_cli import PartlyFailed, resolve, run_alone
from s3pot.config import ConfigError
from s3pot.data.annotation import LabelRoles
from s3pot.data.manifest import read_manifest
from s3pot.evaluation import read_truth
from s3pot.images import ImageError, decode_png, encode_jpeg, write_png
from s3pot.parsing.classes import LABEL_ORDERS
from tests.faces import draw_face

HEIGHT, WIDTH = 10, 12


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shades = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    Image.fromarray(shades).save(path, **options)
    return path


def box(label: str, left: int, top: int, right: int, bottom: int, **more: Any) -> dict[str, Any]:
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "shape_type": "polygon", "points": points} | more


def annotate(path: Path, *shapes: dict[str, Any], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": list(shapes)} | more))


def mask(path: str) -> np.ndarray:
    values = decode_png(Path(path).read_bytes())
    assert set(np.unique(values)) <= {0, 255}
    return values > 127


def broken(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "broken.csv").open() as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two annotated pictures, "0042" with an occlusion and "bare" without, and a picture nobody annotated."""
    for name in ("0042", "bare", "later"):
        picture(tmp_path / "images" / f"{name}.jpg")
    annotate(tmp_path / "json" / "0042.json", box("face", 1, 1, 11, 9), box("occlusion", 0, 0, 4, 3))
    annotate(tmp_path / "json" / "bare.json", box("face", 2, 2, 6, 6))
    (tmp_path / "index.csv").write_text("id,kept,occluder_kinds,identity\n0042,yes,hand+object,ann\nbare,no,nothing,\n")
    return tmp_path


def config(folder: Path, **changes: Any) -> ImportConfig:
    settings: dict[str, Any] = {"format": "labelme", "images": folder / "images", "annotations": folder / "json"}
    return ImportConfig(out=folder / "out", **(settings | changes))


def test_masks_and_manifest(folder: Path) -> None:
    manifest = import_data(config(folder, index=folder / "index.csv", split="dev", prefix="set/"))
    assert manifest["id"].tolist() == manifest["face_id"].tolist() == ["set/0042", "set/bare"]
    assert manifest["kind"].tolist() == ["hand+object", "nothing"]
    assert manifest["identity"].tolist() == ["ann", None]
    assert manifest["path"].tolist() == [str(folder / "images" / f"{name}.jpg") for name in ("0042", "bare")]
    assert set(zip(manifest["width"], manifest["height"], manifest["split"], manifest["source"], strict=True)) == {
        (WIDTH, HEIGHT, "dev", "labelme")
    }
    assert manifest[["clean_path", "parsing_path", "cutout_id"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(manifest, read_manifest(folder / "out" / "manifest.parquet"))
    truth, region = mask(manifest["truth_path"][0]), mask(manifest["region_path"][0])
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(truth, expected)
    assert region.sum() == 80
    assert not mask(manifest["truth_path"][1]).any()
    assert broken(folder) == []


def test_without_an_index_the_kind_says_whether_anything_was_drawn(folder: Path) -> None:
    assert import_data(config(folder))["kind"].tolist() == ["occlusion", "clean"]


def test_encoding_and_evaluation_take_the_manifest(folder: Path) -> None:
    manifest = import_data(config(folder))
    items = read_items(folder / "out" / "manifest.parquet")
    assert [item["id"] for item in items] == ["0042", "bare"]
    assert all(item["clean_path"] is None and item["cutout_id"] is None for item in items)
    truth = read_truth(next(manifest.itertuples()))
    assert truth.occlusion is not None
    assert truth.region is not None
    assert (truth.occlusion.sum(), truth.region.sum()) == (6, 80)


def test_what_is_broken_is_listed_and_loses_nothing_else(folder: Path) -> None:
    (folder / "json" / "0042.json").write_text("{")
    (folder / "json" / "orphan.json").write_text('{"shapes": []}')
    annotate(folder / "json" / "later.json", box("fcae", 1, 1, 3, 3))
    with pytest.raises(PartlyFailed, match=r"3 broken, see .*broken\.csv, first: .*0042\.json: is no JSON"):
        import_data(config(folder))
    listed = broken(folder)
    assert [Path(row["file"]).name for row in listed] == ["0042.json", "later.json", "orphan.json"]
    assert "the label 'fcae'" in listed[1]["problem"]
    assert "orphan.json: no picture of this name" in listed[2]["problem"]
    assert read_manifest(folder / "out" / "manifest.parquet")["id"].tolist() == ["bare"]
    for name in ("0042", "orphan", "later"):
        (folder / "json" / f"{name}.json").unlink()
    import_data(config(folder))
    assert broken(folder) == [], "the report is that of the last import"


def test_nothing_good_at_all(folder: Path) -> None:
    for path in (folder / "json").iterdir():
        path.write_text("{")
    with pytest.raises(PartlyFailed, match="nothing could be imported"):
        import_data(config(folder))
    assert len(broken(folder)) == 2
    assert not (folder / "out" / "manifest.parquet").exists()


def test_the_exit_status_says_that_something_is_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "images" / "bare.jpg").write_bytes(b"no picture")
    words = [f"images={folder / 'images'}", f"annotations={folder / 'json'}", f"out={folder / 'out'}", "format=labelme"]
    monkeypatch.setattr("sys.argv", ["data_import.py", *words])
    with pytest.raises(SystemExit) as stopped:
        run_alone(command)
    assert stopped.value.code == 1
    assert "bare.jpg: is no image" in broken(folder)[0]["problem"]


def test_two_pictures_of_one_name_are_not_guessed_between(folder: Path) -> None:
    picture(folder / "images" / "bare.png")
    with pytest.raises(PartlyFailed, match=r"the pictures .*bare\.jpg, .*bare\.png of this name"):
        import_data(config(folder))
    annotate(folder / "json" / "bare.json", box("face", 2, 2, 6, 6), imagePath="bare.png")
    assert import_data(config(folder))["path"][1].endswith("bare.png"), "unless the annotation names one"


def test_the_masks_are_upright_as_the_picture_is(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture(folder / "images" / "bare.jpg", WIDTH, HEIGHT, exif=exif)
    for decode in (True, False):
        manifest = import_data(config(folder, decode=decode))
        assert (manifest["width"][1], manifest["height"][1]) == (WIDTH, HEIGHT)
        assert mask(manifest["region_path"][1]).shape == (HEIGHT, WIDTH)


def test_an_annotation_cannot_lead_out_of_its_folders(folder: Path) -> None:
    secret = picture(folder / "elsewhere" / "secret.jpg")
    places = {"up": "../elsewhere/secret.jpg", "absolute": str(secret), "home": "/home/nobody/photos/later.jpg"}
    for name, place in places.items():
        annotate(folder / "json" / f"{name}.json", box("face", 1, 1, 5, 5), imagePath=place)
    annotate(folder / "json" / "id.json", box("face", 1, 1, 5, 5), imagePath="later.jpg", s3pot={"id": "../../x"})
    with pytest.raises(PartlyFailed, match="3 broken"):
        import_data(config(folder))
    problems = {Path(row["file"]).stem: row["problem"] for row in broken(folder)}
    assert set(problems) == {"up", "absolute", "id"}
    assert "lies outside" in problems["up"]
    assert "outside=true takes it" in problems["absolute"]
    assert "leads out" in problems["id"]
    assert not list(folder.glob("x*"))
    read = read_manifest(folder / "out" / "manifest.parquet").set_index("id")
    assert read["path"]["home"] == str(folder / "images" / "later.jpg"), "found by its name"
    (folder / "json" / "id.json").unlink()
    allowed = import_data(config(folder, outside=True)).set_index("id")
    assert allowed["path"]["up"] == allowed["path"]["absolute"] == str(secret)


def test_embedded_pictures_are_written_out(folder: Path) -> None:
    data = encode_jpeg(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    embedded = base64.b64encode(data).decode()
    annotate(folder / "alone" / "deep" / "a.json", box("face", 1, 1, 5, 5), imageData=embedded, imagePath="a.jpg")
    manifest = import_data(config(folder, images=None, annotations=folder / "alone"))
    assert manifest["id"].tolist() == ["deep/a"]
    assert manifest["path"][0] == str(folder / "out" / "images" / "deep" / "a.jpg")
    assert Path(manifest["path"][0]).read_bytes() == data
    beside = picture(folder / "alone" / "deep" / "a.png")
    assert import_data(config(folder, images=None, annotations=folder / "alone"))["path"].tolist() == [str(beside)]


def test_two_annotations_of_one_id_are_both_listed(folder: Path) -> None:
    annotate(folder / "json" / "copy.json", box("face", 1, 1, 5, 5), imagePath="later.jpg", s3pot={"id": "bare"})
    with pytest.raises(PartlyFailed, match="2 broken"):
        import_data(config(folder))
    assert [Path(row["file"]).name for row in broken(folder)] == ["bare.json", "copy.json"]
    assert read_manifest(folder / "out" / "manifest.parquet")["id"].tolist() == ["0042"]


def test_a_picture_that_the_index_does_not_name(folder: Path) -> None:
    (folder / "index.csv").write_text("id,kind\nbare,nothing\n")
    with pytest.raises(PartlyFailed, match=r"0042\.json: the index has no row with the id '0042'"):
        import_data(config(folder, index=folder / "index.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,kinds\n0042,hand\n", "the index needs the column id and one of kind"),
        ("kind\nhand\n", "the index needs the column id"),
        ("id,kind\n0042,hand\n0042,hat\n", "the id '0042' stands there twice"),
        ("", "cannot be read as CSV"),
    ],
)
def test_an_index_that_cannot_be_used(folder: Path, content: str, message: str) -> None:
    (folder / "index.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        import_data(config(folder, index=folder / "index.csv"))


def test_a_plain_folder(folder: Path) -> None:
    picture(folder / "images" / "deep" / "a.png")
    manifest = import_data(config(folder, format="folder", annotations=None))
    assert manifest["id"].tolist() == ["0042", "bare", "deep/a", "later"]
    assert manifest[["truth_path", "region_path", "kind"]].isna().all(axis=None), "nobody knows"
    clean = import_data(config(folder, format="folder", annotations=None, clean=True))
    assert set(clean["kind"]) == {"clean"}
    assert not mask(clean["truth_path"][0]).any()


def test_a_folder_with_masks_of_either_polarity(folder: Path) -> None:
    visible = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    visible[2:8, 2:6] = 255
    face = np.zeros_like(visible)
    face[2:8, 2:10] = 255
    write_png(folder / "masks" / "bare.png", visible)
    write_png(folder / "faces" / "bare.png", face)
    settings = {"format": "folder", "annotations": folder / "masks"}
    drawn = import_data(config(folder, **settings))
    assert drawn["id"].tolist() == ["bare"]
    np.testing.assert_array_equal(mask(drawn["truth_path"][0]), visible > 0)
    assert drawn["region_path"].tolist() == [None]
    seen = import_data(config(folder, **settings, polarity="visible_face", regions=folder / "faces"))
    np.testing.assert_array_equal(mask(seen["truth_path"][0]), (face > 0) & (visible == 0))
    np.testing.assert_array_equal(mask(seen["region_path"][0]), face > 0)


def test_ffhq(folder: Path) -> None:
    for name in ("00000/00007.png", "69000/69999.png", "69000/teaser.png"):
        picture(folder / "ffhq" / name)
    with pytest.raises(PartlyFailed, match=r"1 broken.*is not called like a picture of FFHQ"):
        import_data(config(folder, format="ffhq", images=folder / "ffhq", annotations=None, prefix="ffhq/"))
    read = read_manifest(folder / "out" / "manifest.parquet")
    assert read["id"].tolist() == ["ffhq/00007", "ffhq/69999"]
    assert set(read["source"]) == {"ffhq"}


def face_labels(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn face, its 12 classes, and labels of the CelebAMask-HQ order that mean the same."""
    image, parsing = draw_face(size)
    as_celebamask = np.array([0, 11, 6, 4, 13, 2, 1, 8, 17, 10, 3, 15], dtype=np.uint8)
    return image, parsing, as_celebamask[parsing]


def test_celebamask_parts(folder: Path) -> None:
    image, parsing, labels = face_labels(64)
    root = folder / "celeba"
    write_png(root / "img" / "12.png", image.repeat(2, axis=0).repeat(2, axis=1))  # pictures are larger than masks
    write_png(root / "img" / "13.png", image)
    for number, name in enumerate(LABEL_ORDERS["celebamask_hq"]):
        if number and (labels == number).any():
            part = np.repeat((labels == number)[..., None], 3, axis=2).astype(np.uint8) * 255
            write_png(root / "anno" / "0" / f"00012_{name}.png", part)
    write_png(root / "anno" / "7" / "14000_skin.png", np.full((64, 64, 3), 255, np.uint8))
    settings = config(folder, format="celebamask_parts", images=root / "img", annotations=root / "anno")
    with pytest.raises(PartlyFailed, match=r"1 broken.*picture 14000: no picture of this name"):
        import_data(settings)
    row = next(read_manifest(folder / "out" / "manifest.parquet").itertuples())
    assert (row.id, row.source, row.width, row.truth_path) == ("12", "celebamask_hq", 128, None)
    twice = parsing.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(decode_png(Path(row.parsing_path).read_bytes()), twice)
    np.testing.assert_array_equal(decode_png(Path(row.labels_path).read_bytes())[::2, ::2], labels)
    assert mask(row.region_path)[64, 64]


@pytest.mark.parametrize("order", ["celebamask_hq", "face_parsing_pytorch", "segface"])
def test_label_maps_of_every_order(folder: Path, order: Any) -> None:
    image, parsing, labels = face_labels(64)
    # Renumbered by name, in the order that is named.
    names = LABEL_ORDERS["celebamask_hq"]
    renumbered = np.array([LABEL_ORDERS[order].index(name) for name in names], dtype=np.uint8)[labels]
    write_png(folder / "faces" / "a.png", image)
    write_png(folder / "maps" / "a.png", renumbered)
    settings: dict[str, Any] = {"format": "label_maps", "images": folder / "faces", "annotations": folder / "maps"}
    manifest = import_data(config(folder, **settings, labels=order))
    np.testing.assert_array_equal(decode_png(Path(manifest["parsing_path"][0]).read_bytes()), parsing)
    np.testing.assert_array_equal(decode_png(Path(manifest["labels_path"][0]).read_bytes()), labels)


def test_coco(folder: Path) -> None:
    content = {
        "images": [
            {"id": 1, "file_name": "0042.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "../json/bare.json", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "later.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 4, "file_name": "gone.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 5, "name": "hand"}, {"id": 6, "name": "face"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 6, "segmentation": [[1, 1, 11, 1, 11, 9, 1, 9]]},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 5,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 13, 107]},
            },
            {"id": 3, "image_id": 2, "category_id": 6, "segmentation": [[1, 1, 11, 1, 11, 9, 1, 9]]},
            {"id": 4, "image_id": 4, "category_id": 6, "segmentation": [[1, 1, 11, 1, 11, 9, 1, 9]]},
            {"id": 5, "image_id": 77, "category_id": 6, "segmentation": []},
        ],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    roles = LabelRoles(occlusion=("hand",))
    with pytest.raises(PartlyFailed, match="3 broken"):
        import_data(config(folder, format="coco", annotations=folder / "coco.json", roles=roles))
    manifest = read_manifest(folder / "out" / "manifest.parquet")
    assert manifest["id"].tolist() == ["0042"]
    assert mask(manifest["truth_path"][0]).sum() == 2  # rows 1 and 2 of column 1: the first column is beside the face
    problems = " | ".join(row["problem"] for row in broken(folder))
    assert "lies outside" in problems
    assert "no picture 'gone.jpg'" in problems
    assert "image_id 77" in problems
    (folder / "coco.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no COCO file"):
        import_data(config(folder, format="coco", annotations=folder / "coco.json", roles=roles))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None, "format": "folder"}, "images is needed"),
        ({"annotations": None}, "annotations is needed"),
        ({"format": "ffhq"}, "annotations do not go with format=ffhq"),
        ({"format": "label_maps"}, "labels: one of celebamask_hq, face_parsing_pytorch, segface"),
        ({"labels": "segface"}, "labels: one of"),
        ({"format": "folder", "roles": LabelRoles(face=())}, "roles do not go"),
        ({"polarity": "visible_face"}, "regions and polarity go with"),
        ({"format": "folder", "polarity": "visible_face"}, "regions is needed"),
        ({"clean": True}, "clean goes with pictures"),
        ({"prefix": "../"}, "prefix '../' leads out"),
        ({"workers": -1}, "workers must be"),
    ],
)
def test_settings_that_cannot_be(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(folder, **changes)


def test_roles_are_set_on_the_command_line() -> None:
    words = ["format=labelme", "annotations=a", "out=o", "roles.occlusion=[hand, cup]", "roles.face=[]"]
    assert resolve(ImportConfig, words, {}).roles == LabelRoles(occlusion=("hand", "cup"), face=())


def test_nothing_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.json files"):
        import_data(config(folder, annotations=folder / "images"))
    with pytest.raises(ImageError, match="no such folder"):
        import_data(config(folder, format="folder", images=folder / "gone", annotations=None))


def test_a_dry_run_counts_and_writes_nothing(folder: Path) -> None:
    assert plan(config(folder)) == ["2 pictures would be read, 1 have no annotation"]
    assert "no such folder" in plan(config(folder, images=folder / "gone"))[0]
    assert not (folder / "out").exists()


def test_real_label_maps_give_the_parsing_of_the_chain(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "celebamask" / "val"
    for folder, suffix in (("images", "jpg"), ("labels", "png")):
        (tmp_path / folder).mkdir()
        for path in sorted((root / folder).glob(f"*.{suffix}"))[:3]:
            (tmp_path / folder / path.name).symlink_to(path)
    settings = ImportConfig(
        format="label_maps",
        labels="celebamask_hq",
        images=tmp_path / "images",
        annotations=tmp_path / "labels",
        out=tmp_path / "out",
    )
    for row in import_data(settings).itertuples():
        original = np.asarray(Image.open(tmp_path / "labels" / f"{row.id}.png"))
        np.testing.assert_array_equal(decode_png(Path(row.labels_path).read_bytes()), original)
        assert 0.05 < mask(row.region_path).mean() < 0.7
