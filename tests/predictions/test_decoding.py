"""Real files of every kind: what each says is the target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s3pot.images import ImageError
from s3pot.predictions.decoding import read_claim
from s3pot.predictions.prediction import Prediction

# Four pixels; which are the target is written in every test.
LEFT = [[True, False], [True, False]]


def save(path: Path, values: Any, mode: str | None = None) -> Path:
    Image.fromarray(np.array(values, dtype=np.uint8), mode).save(path)
    return path


def claimed(path: Path, **values: Any) -> list[list[bool]]:
    return (read_claim(Prediction(path=path, **values)) > 0).tolist()


def test_masks(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", [[255, 127], [128, 0]])
    assert claimed(grey) == LEFT
    assert claimed(grey, encoding="nonzero") == [[True, True], [True, False]]
    assert claimed(grey, encoding="above", threshold=200.0) == [[True, False], [False, False]]
    rgb = save(tmp_path / "rgb.png", np.repeat(np.array([[255, 1], [200, 0]])[..., None], 3, axis=2))
    assert claimed(rgb) == LEFT


def test_a_palette_of_black_and_white_is_what_it_looks_like(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[1, 0], [1, 0]], dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "palette.png")
    assert claimed(tmp_path / "palette.png") == LEFT


def test_label_maps_of_grey_and_palette(tmp_path: Path) -> None:
    labels = [[2, 0], [10, 18]]  # of segface: skin, background, nose, neck_l
    parts = {"encoding": "labels", "target": "parts", "label_order": ("segface",)}
    assert claimed(save(tmp_path / "grey.png", labels), **parts) == LEFT
    image = Image.fromarray(np.array(labels, dtype=np.uint8), "P")
    image.putpalette(list(range(57)))
    image.save(tmp_path / "palette.png")
    assert claimed(tmp_path / "palette.png", **parts) == LEFT


def test_one_colour_of_a_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[[255, 0, 0], [255, 0, 1]], [[255, 0, 0], [0, 0, 0]]])
    assert claimed(path, encoding="color", color=(255, 0, 0)) == LEFT


def test_logits_of_one_thing_and_of_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.1, -3.0], [4.0, 0.0]], dtype=np.float16))
    assert claimed(tmp_path / "a.npy", encoding="logits") == LEFT
    assert claimed(tmp_path / "a.npy", encoding="logits", threshold=0.2) == [[False, False], [True, False]]
    scores = np.stack([np.zeros((2, 2)), np.array([[1.0, -1], [1, -1]]), np.full((2, 2), 0.5)])
    np.save(tmp_path / "c.npy", scores)
    by_class = {"encoding": "logits", "label_order": ("background", "face", "hand"), "target": "parts"}
    assert claimed(tmp_path / "c.npy", classes=("face",), **by_class) == LEFT


def test_what_a_file_is_not_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such prediction"):
        claimed(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="holds colours: say encoding=color"):
        claimed(save(tmp_path / "c.png", [[[255, 0, 0]]]))
    with pytest.raises(ImageError, match="holds the label 19, the order segface has 19 classes: another label order"):
        claimed(save(tmp_path / "l.png", [[19]]), encoding="labels", target="parts", label_order=("segface",))
    (tmp_path / "a.npy").write_bytes(b"no numbers")
    with pytest.raises(ImageError, match=r"no \.npy file of numbers"):
        claimed(tmp_path / "a.npy", encoding="logits")
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2)))
    with pytest.raises(ImageError, match=r"expected logits \(H, W\), got \(2, 2, 2\)"):
        claimed(tmp_path / "a.npy", encoding="logits")
    np.save(tmp_path / "a.npy", np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(ImageError, match="floating-point numbers"):
        claimed(tmp_path / "a.npy", encoding="logits")
