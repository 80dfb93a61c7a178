import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from skimage.data import astronaut

from s3pot.images import decode_png, encode_jpeg
from s3pot.places import join_place
from s3pot.prediction_table import SCHEMA, PredictionTable, TableWriter
from s3pot.store.errors import StoreError
from s3pot.store.place_files import result_names, write_result


def row(image: str, face: int = 1, **values: Any) -> dict[str, Any]:
    known = {"image": image, "face": face, "status": "ok", "transductive": False, "identity": "i"}
    return known | values


@pytest.fixture(params=["path", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PredictionTable]:
    if request.param == "path":
        yield PredictionTable(str(tmp_path / "out"))
        return
    yield PredictionTable("memory://predicted")
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists("/predicted"):
        filesystem.rm("/predicted", recursive=True)


def scores(table: PredictionTable) -> dict[tuple[str, int], float]:
    rows = table.rows(["score"])
    return {(image, face): score for image, face, score in rows.itertuples(index=False)}


def test_nothing_is_an_empty_table(table: PredictionTable) -> None:
    assert list(table.rows().columns) == SCHEMA.names
    assert not len(table.rows())
    table.merge()
    assert table.parts() == []


def test_rows_come_back_as_they_were(table: PredictionTable) -> None:
    full = row("b/é.jpg", 2, score=0.5, abstained=False, area=7, rle="03", box=[1, 2, 3, 4], corners=[0.5] * 8)
    table.append([full])
    [found] = table.rows().to_dict("records")
    assert {name: list(found[name]) if name in ("box", "corners") else found[name] for name in full} == full
    assert pd.isna(found["error"])


def test_of_a_photograph_that_was_done_again_all_faces_are_new(table: PredictionTable) -> None:
    table.append([row("a", 1, score=1.0), row("a", 2, score=2.0), row("b", 1, score=3.0)])
    table.append([row("a", 1, score=4.0)])
    expected = {("a", 1): 4.0, ("b", 1): 3.0}
    assert scores(table) == expected
    assert len(table.parts()) == 2
    table.merge()
    assert scores(table) == expected
    assert table.parts() == []
    table.append([row("b", 0, status="no_face")])
    assert table.rows(["status"])[["image", "face", "status"]].to_numpy().tolist() == [
        ["a", 1, "ok"],
        ["b", 0, "no_face"],
    ]
    table.merge()
    assert len(table.rows()) == 2


def test_parts_count_in_the_order_of_writing_whatever_the_clock_says(
    table: PredictionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for score in (1.0, 2.0, 3.0):
        table.append([row("a", score=score)])
        monkeypatch.setattr("s3pot.prediction_table.time.time_ns", lambda: 5)  # a clock that is far behind
    assert scores(table) == {("a", 1): 3.0}


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    table = PredictionTable(str(tmp_path))
    write_result(join_place(str(tmp_path), "parts/00000000000000000007.parquet"), b"no parquet")
    with pytest.raises(StoreError, match=r"00000000000000000007\.parquet: damaged.*remove it"):
        table.rows()


def test_a_table_of_other_columns_is_refused_before_anything_is_done_for_it(tmp_path: Path) -> None:
    table = PredictionTable(str(tmp_path))
    table.append([row("a")])
    table.merge()
    pd.read_parquet(table.place).drop(columns="box").to_parquet(table.place)
    with pytest.raises(StoreError, match=r"table\.parquet: .*another version.*no column box.*remove it"):
        table.rows(["status"])


def test_the_document_describes_every_column(repository: Path) -> None:
    document = (repository / "docs" / "predict.md").read_text(encoding="utf-8")
    rows = document.partition("\n| column |")[2].split("\n\n")[0].splitlines()[2:]
    described = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in rows]
    names = {"list<int32>": "list&lt;int32&gt;", "list<float>": "list&lt;float&gt;"}

    def type_text(kind: pa.DataType) -> str:
        return names[f"list<{kind.value_type}>"] if pa.types.is_list(kind) else str(kind)

    expected = [[field.name, type_text(field.type), "yes" if field.nullable else "no"] for field in SCHEMA]
    assert [row[:3] for row in described] == expected
    assert all(row[3] for row in described)


def test_the_example_of_the_document(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/predict.md, with the embedded models: it runs as printed, and finds the bar over her mouth."""
    document = (repository / "docs" / "predict.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    covered = astronaut()[:260].copy()
    covered[128:160, 190:260] = (20, 120, 40)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(encode_jpeg(covered))
    exec(compile(example, "docs/predict.md", "exec"), {})
    mask = decode_png((tmp_path / "mask.png").read_bytes())
    assert mask.shape == (260, 512)
    assert (mask[128:160, 195:255] == 255).mean() > 0.5
    assert (mask[128:160, 190:260] == 255).sum() > 0.5 * (mask == 255).sum()


class TestWriter:
    def test_what_waits_is_written_after_some_time_and_at_the_end(self, tmp_path: Path) -> None:
        now = [0.0]
        table = PredictionTable(str(tmp_path))
        writer = TableWriter(table, lambda: now[0])
        writer.add("a", [row("a")])
        assert table.parts() == []
        now[0] = 6.0
        writer.add("b", [row("b"), row("b", 2)])
        assert len(table.parts()) == 1
        writer.add("a", [row("a", score=2.0)])
        writer.add("a", [row("a", score=3.0)])  # a block that Ray did twice
        writer.flush()
        writer.flush()
        assert len(table.parts()) == 2
        assert table.rows(["score"])["score"].tolist()[0] == 3.0
        assert len(table.rows()) == 3

    def test_many_photographs_leave_few_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        table = PredictionTable(str(tmp_path))
        monkeypatch.setattr(table, "append", lambda rows: sizes.append(len(rows)))
        now = [0.0]
        writer = TableWriter(table, lambda: now[0])
        for number in range(20_000):
            now[0] += 10.0  # so slow that time alone would write every photograph by itself
            writer.add(str(number), [row(str(number))])
        writer.flush()
        assert sum(sizes) == 20_000
        assert len(sizes) < 2_000
        assert max(sizes) <= 20_000 / 256 + 1, "what a kill would lose stays a small share"
        assert result_names(str(tmp_path)) == []
