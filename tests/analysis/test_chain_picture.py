"""The picture of the chain."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.case_panels import Panel
from analysis.chain_picture import _median_image, _side_by_side, write_chain_picture
from analysis.results import read_evaluation


def test_the_median_is_drawn_not_the_best(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b", "c"], "status": "ok", "iou_face_mask": [0.9, 0.1, 0.5]})
    table.to_parquet(tmp_path / "per_image.parquet")
    assert _median_image(read_evaluation("x", tmp_path)) == "c"


def test_without_truth_it_says_so(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a"], "status": "ok", "iou_face_mask": [np.nan]})
    table.to_parquet(tmp_path / "per_image.parquet")
    with pytest.raises(ValueError, match="no image with truth"):
        write_chain_picture(tmp_path, tmp_path, tmp_path / "chain.png")


def test_panels_stand_side_by_side() -> None:
    # A 1 x 1 red PNG as a data URI.
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    panel = Panel(caption="Red", detail="", alt="red", source=f"data:image/png;base64,{pixel}")
    sheet = _side_by_side([panel, panel])
    assert sheet.shape == (27, 8, 3)
    assert sheet[-1, 0].tolist() == sheet[-1, 7].tolist() == [255, 0, 0]
