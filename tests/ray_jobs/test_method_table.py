"""The table of three methods whose numbers are known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.method_table import table_text, write_method_table
from s3pot.metrics import METRIC_COLUMNS


def write(folder: Path, ious: list[float], areas: list[float], **facts: object) -> None:
    """Three occluded pictures of one kind, and two clean ones in a folder of their own."""
    for place, values, truth in ((folder, ious, 10.0), (folder / "clean", areas, 0.0)):
        place.mkdir(parents=True)
        rows = []
        for number, value in enumerate(values):
            row: dict[str, object] = dict.fromkeys(METRIC_COLUMNS, np.nan)
            row |= {"id": f"i{number}", "status": "ok", "error": None, "kind": "hands", "truth_pixels": truth}
            row |= {"face_id": f"f{number}", "cutout_id": f"c{number}", "occlusion_score": value}
            row |= {"iou_face_mask": value, "truth_share": 1.0} if truth else {"false_positive_area": value}
            rows.append(row)
        pd.DataFrame(rows).to_parquet(place / "per_image.parquet")
        (place / "summary.json").write_text(json.dumps(facts))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "ours", [0.6, 0.7, 0.8], [0.0, 0.0], seconds_per_image=0.25)
    write(tmp_path / "masks", [0.5, 0.5, 0.5], [0.0, 4.0], full_face="region", missing_policy="empty")
    return tmp_path


def test_numbers_differences_and_clean_faces(folder: Path) -> None:
    table = write_method_table(folder, ["ours", "masks"], {}, clean=True)
    text = table_text(table)
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("|")}
    main = {name: cells for name, cells in lines.items() if name in ("ours", "masks")}
    # The last lines of a name are those of the slices.
    assert main["ours"][1].startswith("0.700")
    assert "| masks | 0.500 [0.500, 0.500] | -0.200 [" in text
    assert "| ours | 0.700 [" in text
    assert "2.00 [0.00, 4.00] | 0.50 [0.00, 1.00]" in text, "two clean faces, one of them marked on 4 %"
    assert "| 0.250 |" in text
    assert "- masks: occlusion = full face (region) minus visible face." in text
    assert "| IoU by kind | hands (3) |" in text
    assert "| IoU by slice | size=small (3) |" in text
    long = pd.read_csv(folder / "table.csv")
    assert set(long["method"]) == {"ours", "masks"}
    row = long[(long["method"] == "masks") & (long["set"] == "clean") & (long["metric"] == "false_positive_area")]
    assert row["mean"].iloc[0] == 2.0


def test_what_failed_and_what_was_not_measured_is_said(folder: Path) -> None:
    path = folder / "masks" / "per_image.parquet"
    table = pd.read_parquet(path)
    table.loc[0, ["status", "error"]] = ["failed", "i0.png: no such prediction"]
    table.to_parquet(path)
    written = write_method_table(folder, ["ours", "masks", "gone"], {"gone": "no such folder"}, clean=False)
    assert written.failed == {"masks": "i0.png: no such prediction"}
    assert "- not measured: gone: no such folder" in written.markdown
    assert "Failed images are not in the numbers: ours 0, masks 1." in written.markdown


def test_without_any_method_there_is_a_table_that_says_so(tmp_path: Path) -> None:
    written = write_method_table(tmp_path, ["gone"], {"gone": "no such folder"}, clean=False)
    assert "not measured: gone" in written.markdown
    assert (tmp_path / "table.csv").read_text().startswith("method,set")
