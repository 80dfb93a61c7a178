import math

import numpy as np
import pandas as pd
import pytest

from s3pot.metrics.per_image import METRIC_COLUMNS, OCCLUDED_METRICS
from s3pot.metrics.summary import SLICED_METRICS, summarise


def row(
    name: str, kind: str, face: str, cutout: str | None, *, status: str = "ok", **metrics: float
) -> dict[str, object]:
    return {
        "id": name,
        "status": status,
        "kind": kind,
        "face_id": face,
        "cutout_id": cutout,
        **dict.fromkeys(METRIC_COLUMNS, math.nan),
        **metrics,
    }


def occluded(name: str, kind: str, face: str, cutout: str | None, iou: float, **more: float) -> dict[str, object]:
    metrics = dict.fromkeys(OCCLUDED_METRICS, iou) | {"intersection": 10 * iou, "union": 10.0, "truth_pixels": 10.0}
    return row(name, kind, face, cutout, **(metrics | {"occlusion_score": 0.8} | more))


def clean(name: str, face: str, area: float, *, kind: str = "none", score: float = 0.1) -> dict[str, object]:
    return row(name, kind, face, None, truth_pixels=0.0, false_positive_area=area, occlusion_score=score)


def two_kinds() -> list[dict[str, object]]:
    """Twenty hands with IoU 0.8, ten cups with 0.4, two scarves with 0."""
    rows = [occluded(f"h{i}", "hand", f"f{i % 5}", f"hand{i % 10}", 0.8) for i in range(20)]
    rows += [occluded(f"c{i}", "cup", f"f{i % 5}", f"cup{i}", 0.4) for i in range(10)]
    return rows + [occluded(f"s{i}", "scarf", f"f{i}", f"scarf{i}", 0.0) for i in range(2)]


def test_headline_is_the_mean_over_kinds_with_enough_cutouts():
    summary = summarise(pd.DataFrame(two_kinds()), seed=0, replicates=50)
    assert summary.headline_kinds == ("cup", "hand")
    assert summary.left_out_kinds == ("scarf",)
    headline = summary.value("iou_face_mask")
    assert (headline.mean, headline.low, headline.high) == pytest.approx((0.6, 0.6, 0.6))
    assert (headline.n, headline.level) == (30, 0.95)
    assert summary.value("iou_face_mask", scope="overall").mean == pytest.approx((20 * 0.8 + 10 * 0.4) / 32)
    assert summary.value("iou_face_mask", scope="overall").n == 32
    assert summary.value("iou_face_mask", scope="kind", kind="scarf").mean == 0.0


def test_every_occluded_metric_and_the_pooled_iou_are_there():
    summary = summarise(pd.DataFrame(two_kinds()), seed=0, replicates=20)
    for scope, kind in (("headline", ""), ("overall", ""), ("kind", "hand")):
        entries = summary.metrics[(summary.metrics["scope"] == scope) & (summary.metrics["kind"] == kind)]
        assert entries["metric"].tolist() == [*OCCLUDED_METRICS, "pooled_iou"]
    assert summary.value("pooled_iou", scope="kind", kind="cup").mean == pytest.approx(0.4)


def test_slices_are_groups_over_all_kinds():
    rows = [
        occluded("a", "hand", "f1", "x", 0.2, truth_share=1.0, thin_share=0.9) | {"attribute_light": "dim"},
        occluded("b", "cup", "f2", "y", 0.6, truth_share=2.0, thin_share=0.1) | {"attribute_light": "dim"},
        occluded("c", "cup", "f3", "z", 1.0, truth_share=30.0, thin_share=0.0) | {"attribute_light": None},
    ]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    found = summary.metrics[summary.metrics["scope"] == "slice"]
    assert set(found["metric"]) == set(SLICED_METRICS)
    means = found[found["metric"] == "iou_face_mask"].set_index("kind")["mean"].to_dict()
    assert means == pytest.approx(
        {"size=small": 0.4, "size=large": 1.0, "fine=yes": 0.2, "fine=no": 0.8, "light=dim": 0.4}
    )


def test_pooled_and_mean_differ_when_sizes_do():
    rows = [
        occluded("a", "hand", "f1", "x", 0.1, intersection=1.0, union=10.0),
        occluded("b", "hand", "f2", "y", 0.9, intersection=90.0, union=100.0),
    ]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    assert summary.value("iou_face_mask", scope="overall").mean == pytest.approx(0.5)
    assert summary.value("pooled_iou", scope="overall").mean == pytest.approx(91 / 110)


def test_clean_faces_have_their_own_rows():
    rows = [
        *two_kinds(),
        clean("k1", "g1", 0.0),
        clean("k2", "g2", 3.0),
        clean("k3", "g3", 6.0, kind="seam", score=0.9),
    ]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=50)
    assert summary.value("false_positive_area", scope="clean").mean == pytest.approx(3.0)
    assert summary.value("share_above_limit", scope="clean").mean == pytest.approx(2 / 3)
    assert summary.value("auroc", scope="clean").mean == pytest.approx(2 / 3)
    assert summary.value("auroc", scope="clean").n == 35
    assert summary.value("false_positive_area", scope="clean_kind", kind="seam").mean == 6.0
    assert summary.value("iou_face_mask").mean == pytest.approx(0.6)  # they do not touch the IoU
    assert summary.counts["clean"] == 3


def test_failed_rows_are_counted_and_never_averaged():
    rows = [*two_kinds(), row("bad", "hand", "f1", "hand3", status="failed", truth_pixels=10.0, iou_face_mask=0.0)]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    assert summary.value("iou_face_mask").n == 30
    assert summary.counts == {
        "rows": 33,
        "failed": 1,
        "truth_unknown": 0,
        "occluded": 32,
        "clean": 0,
        "status_failed": 1,
        "status_ok": 32,
    }


def test_an_empty_result_counts_as_zero():
    rows = [*two_kinds(), occluded("n", "hand", "f9", "hand3", 0.0) | {"status": "no_face"}]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    assert summary.value("iou_face_mask", scope="kind", kind="hand").mean == pytest.approx(20 * 0.8 / 21)
    assert summary.counts["status_no_face"] == 1


def test_a_headline_kind_that_failed_throughout_does_not_vanish():
    rows = two_kinds() + [row(f"x{i}", "book", "f1", f"book{i}", status="failed") for i in range(10)]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    assert summary.headline_kinds == ("book", "cup", "hand")
    assert math.isnan(summary.value("iou_face_mask").mean)
    assert summary.value("iou_face_mask", scope="overall").n == 32


def test_a_seam_with_many_cutouts_is_no_occluder_kind():
    rows = two_kinds() + [clean(f"k{i}", f"g{i}", 0.0, kind="seam") | {"cutout_id": f"seam{i}"} for i in range(12)]
    assert summarise(pd.DataFrame(rows), seed=0, replicates=20).headline_kinds == ("cup", "hand")


def test_undefined_metrics_are_counted_per_entry():
    rows = two_kinds()
    rows[0]["precision"] = math.nan
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=20)
    entry = summary.metrics.query("scope == 'kind' and kind == 'hand' and metric == 'precision'").iloc[0]
    assert (entry["n"], entry["undefined"]) == (19, 1)


def test_photographs_without_cutouts_are_their_own():
    rows = [occluded(f"p{i}", "hand", f"f{i}", None, i / 12) for i in range(12)]
    summary = summarise(pd.DataFrame(rows), seed=0, replicates=200)
    assert summary.headline_kinds == ("hand",)
    assert summary.value("iou_face_mask").low < summary.value("iou_face_mask").mean


def test_unknown_truth_is_counted_and_missing_metric_columns_are_undefined():
    rows = [*two_kinds(), row("u", "wild", "f1", None, occlusion_score=0.4)]
    table = pd.DataFrame(rows).drop(columns=["boundary_f"])
    summary = summarise(table, seed=0, replicates=20)
    assert summary.counts["truth_unknown"] == 1
    assert math.isnan(summary.value("boundary_f").mean)
    assert "wild" not in summary.headline_kinds + summary.left_out_kinds


def test_row_order_does_not_matter_and_the_seed_does():
    generator = np.random.default_rng(0)
    rows = [occluded(f"h{i}", "hand", f"f{i % 6}", f"h{i % 11}", float(generator.random())) for i in range(40)]
    table = pd.DataFrame(rows)
    first = summarise(table, seed=1, replicates=100).metrics
    shuffled = summarise(table.sample(frac=1, random_state=0), seed=1, replicates=100).metrics
    pd.testing.assert_frame_equal(first, shuffled)
    assert not summarise(table, seed=2, replicates=100).metrics.equals(first)


def test_only_failures_still_give_a_summary():
    summary = summarise(pd.DataFrame([row("bad", "hand", "f1", None, status="failed")]), seed=0, replicates=20)
    assert summary.counts["failed"] == 1
    assert summary.value("iou_face_mask").n == 0
    assert math.isnan(summary.value("false_positive_area", scope="clean").mean)


def test_a_table_read_back_from_parquet_gives_the_same(tmp_path):
    table = pd.DataFrame([*two_kinds(), clean("k1", "g1", 2.0)])
    table.to_parquet(tmp_path / "table.parquet")
    again = summarise(pd.read_parquet(tmp_path / "table.parquet"), seed=0, replicates=20)
    pd.testing.assert_frame_equal(summarise(table, seed=0, replicates=20).metrics, again.metrics)


def test_wrong_tables_are_named():
    table = pd.DataFrame(two_kinds())
    with pytest.raises(ValueError, match=r"missing columns \['face_id'\]"):
        summarise(table.drop(columns=["face_id"]), seed=0)
    with pytest.raises(ValueError, match=r"missing columns \['truth_pixels'\]"):
        summarise(table.drop(columns=["truth_pixels"]), seed=0)
    with pytest.raises(ValueError, match="got 0 rows"):
        summarise(table.iloc[:0], seed=0)
    with pytest.raises(ValueError, match=r"repeated: \['h0'\]"):
        summarise(pd.concat([table, table.iloc[:1]]), seed=0)
    table.loc[1, "face_id"] = None
    with pytest.raises(ValueError, match=r"empty in \['h1'\]"):
        summarise(table, seed=0)
    with pytest.raises(KeyError, match="no entry"):
        summarise(pd.DataFrame(two_kinds()), seed=0, replicates=5).value("iou_face_mask", scope="kind", kind="book")
