import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from s3pot.data.manifest import FILE, SCHEMA, ManifestError, join_manifests, read_manifest, write_manifest


def rows(*ids: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": name, "path": f"/pictures/{name}.jpg", "width": 3, "height": 2} | more for name in ids]


def test_what_is_written_is_read_back_sorted_with_none_for_absent(tmp_path: Path) -> None:
    written = write_manifest(tmp_path, rows("b", "a", truth_path=tmp_path / "t.png", kind=None))
    read = read_manifest(tmp_path / FILE)
    pd.testing.assert_frame_equal(written, read)
    assert read["id"].tolist() == ["a", "b"]
    assert read["truth_path"].tolist() == [str(tmp_path / "t.png")] * 2
    assert all(value is None for value in read["kind"])
    assert [int(value) for value in read["width"]] == [3, 3]
    assert list(read.columns) == SCHEMA.names
    assert pa.parquet.read_schema(tmp_path / FILE).field("width").type == pa.int32()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_further_columns_are_kept(tmp_path: Path) -> None:
    read = write_manifest(tmp_path, [*rows("a", parsing_source="labels"), *rows("b")])
    assert list(read.columns) == [*SCHEMA.names, "parsing_source"]
    assert read["parsing_source"].tolist() == ["labels", None]


def test_manifests_of_others_need_id_and_path_only(tmp_path: Path) -> None:
    pd.DataFrame({"id": [7, 8], "path": ["a.jpg", "s3://bucket/b.jpg"]}).to_parquet(tmp_path / "m.parquet")
    read = read_manifest(tmp_path / "m.parquet")
    assert read["id"].tolist() == ["7", "8"]
    assert read["path"].tolist() == [str(tmp_path / "a.jpg"), "s3://bucket/b.jpg"], "relative to the manifest"
    assert read["truth_path"].tolist() == [None, None]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": ["a"]}, "lacks the columns path"),
        ({"id": ["a", "a"], "path": ["x", "y"]}, "the id 'a' stands there more than once"),
        ({"id": ["../a"], "path": ["x"]}, r"the id '\.\./a' leads out"),
        ({"id": ["/a"], "path": ["x"]}, "leads out"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, frame: dict[str, list[str]], message: str) -> None:
    pd.DataFrame(frame).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.parquet")


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"no")
    for name in ("m.parquet", "gone.parquet"):
        with pytest.raises(ManifestError, match=rf"{name}: cannot be read as Parquet"):
            read_manifest(tmp_path / name)


def test_bad_ids_are_not_written(tmp_path: Path) -> None:
    for ids in (("a", "a"), ("..",)):
        with pytest.raises(ManifestError):
            write_manifest(tmp_path, rows(*ids))
    assert not list(tmp_path.iterdir())


def test_manifests_are_joined_when_their_ids_differ(tmp_path: Path) -> None:
    for name, ids in {"one": ("a", "b"), "two": ("c",), "three": ("b",)}.items():
        write_manifest(tmp_path / name, rows(*ids))
    places = [tmp_path / name / FILE for name in ("one", "two")]
    assert join_manifests(places)["id"].tolist() == ["a", "b", "c"]
    with pytest.raises(ManifestError, match=r"the id 'b' stands in .*one.*, too: import one of them with a prefix="):
        join_manifests([*places, tmp_path / "three" / FILE])


def test_the_document_describes_every_column(repository: Path) -> None:
    document = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)` \| (\w+) \| (yes|no) \| (.{8,}) \|$", document, re.MULTILINE)
    assert [row[:3] for row in described] == [
        (field.name, str(field.type), "yes" if field.nullable else "no") for field in SCHEMA
    ]
    for name, _, null, meaning in described:
        assert null == "no" or "null" in meaning or name in ("width", "height"), name
