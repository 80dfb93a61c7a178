from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3pot.config import ConfigError
from s3pot.images import write_png
from s3pot.predictions.table import PredictionsError, read_predictions

IDS = ["a", "b", "sub/c.jpg"]


def masks(folder: Path, *names: str) -> Path:
    for name in names:
        write_png(folder / f"{name}.png", np.zeros((2, 2), dtype=np.uint8))
    return folder


def test_a_folder_is_joined_by_id(tmp_path: Path) -> None:
    found = read_predictions(masks(tmp_path / "m", "b", "sub/c.jpg", "stranger"), IDS)
    assert {name: prediction.path for name, prediction in found.by_id.items()} == {
        name: tmp_path / "m" / f"{name}.png" for name in IDS
    }
    assert found.unknown == ("stranger",)


def test_a_description_names_a_file_for_every_image(tmp_path: Path) -> None:
    (tmp_path / "segface.yaml").write_text(
        "method: segface\npath: out/{id}_seg.png\nencoding: labels\nlabel_order: segface\nframe: aligned\n"
        "target: parts\nclasses: [skin, nose]\n"
    )
    found = read_predictions(tmp_path / "segface.yaml", IDS)
    assert found.by_id["a"].path == tmp_path / "out" / "a_seg.png"
    assert (found.by_id["b"].label_order, found.by_id["b"].classes) == (("segface",), ("skin", "nose"))
    with pytest.raises(PredictionsError, match="describes the method 'segface', not 'lisa'"):
        read_predictions(tmp_path / "segface.yaml", IDS, "lisa")


def table(path: Path) -> Path:
    rows = [
        {"method": "seggpt", "image_id": "b", "path": "b.png", "encoding": "color", "color": "#ff8000"},
        {"method": "seggpt", "image_id": "a", "path": "/x/a.png", "frame": "crop", "crop": "1 2 30 40"},
        {"method": "lisa", "image_id": "a", "path": "a.npy", "encoding": "logits", "threshold": "0.5"},
    ]
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_a_table_of_several_methods(tmp_path: Path, name: str) -> None:
    found = read_predictions(table(tmp_path / name), IDS, "seggpt").by_id
    assert sorted(found) == ["a", "b"]
    assert (found["b"].path, found["b"].color) == (tmp_path / "b.png", (255, 128, 0))
    assert (found["a"].path, found["a"].crop, found["a"].encoding) == (Path("/x/a.png"), (1, 2, 30, 40), "above-127")
    assert read_predictions(tmp_path / name, IDS, "lisa").by_id["a"].threshold == 0.5
    with pytest.raises(PredictionsError, match="holds several methods: say method=lisa or seggpt"):
        read_predictions(tmp_path / name, IDS)
    with pytest.raises(PredictionsError, match="holds no method 'vrp', only lisa, seggpt"):
        read_predictions(tmp_path / name, IDS, "vrp")


def test_numbers_as_ids_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id,path\n007,x.png\n")
    assert sorted(read_predictions(tmp_path / "a.csv", ["007"]).by_id) == ["007"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,path\na,b\n", "lacks the columns image_id"),
        ("image_id,path\na,x\na,y\n", "holds two predictions for 'a'"),
        ("image_id,path\n0001,x\n", "its ids look like '0001', those of the images like 'a'"),
        ("image_id,path,colour\na,x,red\n", "colour"),
        ("image_id,path,encoding,color\na,x,color,red\n", "color must be written #rrggbb, got 'red'"),
        ("image_id,path,encoding\na,x,labels\n", "a.csv: x: encoding=labels needs a label_order"),
        ("image_id,path,encoding\na,x,png\n", "encoding: expected nonzero"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_predictions(tmp_path / "a.csv", IDS)


def test_a_folder_of_other_names_and_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="its ids look like '0001', those of the images like 'a'"):
        read_predictions(masks(tmp_path / "m", "0001"), IDS)
    with pytest.raises(FileNotFoundError, match="neither a folder"):
        read_predictions(tmp_path / "gone", IDS)
    (tmp_path / "d.yaml").write_text("path: masks/a.png\n")
    with pytest.raises(PredictionsError, match=r"path must hold \{id\}"):
        read_predictions(tmp_path / "d.yaml", IDS)
