import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3pot.store import StoreError, manifest
from s3pot.store.compaction import compact_parts
from s3pot.store.manifest import CARRIED, SCHEMA, WITHDRAWN, append_part, list_parts, read_manifest


def row(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "path": f"{name}.png", "status": "ok"} | values


def test_parts_are_united_and_sorted_by_id(tmp_path: Path) -> None:
    append_part(tmp_path, [row("c"), row("a")])
    append_part(tmp_path, [row("b")])
    frame = read_manifest(tmp_path)
    assert frame["id"].tolist() == ["a", "b", "c"]
    assert frame.index.tolist() == [0, 1, 2]
    assert list(frame.columns) == SCHEMA.names


def test_of_several_rows_for_one_image_the_last_written_counts(tmp_path: Path) -> None:
    append_part(tmp_path, [row("a", status="failed", error="cut short"), row("b", initial_prompt=1)])
    append_part(tmp_path, [row("a", initial_prompt=2)])
    append_part(tmp_path, [row("b", initial_prompt=3), row("b", initial_prompt=4)])
    frame = read_manifest(tmp_path).set_index("id")
    assert frame.loc["a", "status"] == "ok"
    assert frame["error"].isna().all()
    assert frame["initial_prompt"].to_dict() == {"a": 2, "b": 4}


def test_twenty_parts_count_in_the_order_of_writing(tmp_path: Path) -> None:
    for number in range(20):
        append_part(tmp_path, [row("a", initial_prompt=number)])
    assert read_manifest(tmp_path)["initial_prompt"].tolist() == [19]


def test_values_come_back(tmp_path: Path) -> None:
    transform = [0.5, 0.0, -0.25, 0.0, 0.5, -0.25]
    values = {
        "shard": "s.safetensors",
        "row": 3,
        "original_height": 100,
        "to_original": transform,
        "occlusion_prompts": [1, 5],
        "face_prompts": [],
        "similarity": b"\x00\x3c",
        "seconds": 0.5,
        "kind": "hands",
    }
    append_part(tmp_path, [row("a", **values)])
    [read] = read_manifest(tmp_path).to_dict("records")
    assert read["shard"] == "s.safetensors"
    assert (read["row"], read["original_height"], read["seconds"], read["kind"]) == (3, 100, 0.5, "hands")
    assert read["to_original"].tolist() == transform
    assert read["occlusion_prompts"].tolist() == [1, 5]
    assert read["face_prompts"].tolist() == []
    assert read["similarity"] == b"\x00\x3c"
    assert read["truth_path"] is None or read["truth_path"] != read["truth_path"]


class TestColumns:
    def test_the_id_is_always_among_them(self, tmp_path: Path) -> None:
        append_part(tmp_path, [row("b"), row("a", status="no_face")])
        frame = read_manifest(tmp_path, ["status"])
        assert list(frame.columns) == ["id", "status"]
        assert frame["status"].tolist() == ["no_face", "ok"]
        assert list(read_manifest(tmp_path, ["status", "id"]).columns) == ["id", "status"]

    @pytest.mark.parametrize("columns", [None, ["status"], ["id", "row"]])
    def test_an_empty_manifest_has_the_same_columns(self, tmp_path: Path, columns: list[str] | None) -> None:
        for folder in (tmp_path, tmp_path / "not_made_yet"):
            frame = read_manifest(folder, columns)
            assert len(frame) == 0
            assert list(frame.columns) == (SCHEMA.names if columns is None else list(dict.fromkeys(["id", *columns])))

    def test_an_unknown_column_is_an_error(self, tmp_path: Path) -> None:
        append_part(tmp_path, [row("a")])
        with pytest.raises(KeyError, match="colour"):
            read_manifest(tmp_path, ["colour"])

    def test_absent_text_is_none(self, tmp_path: Path) -> None:
        append_part(tmp_path, [row("a"), row("b", kind="hands", shard="s")])
        frame = read_manifest(tmp_path, ["kind", "shard"])
        assert frame["kind"].tolist() == [None, "hands"]
        assert frame["shard"].tolist() == [None, "s"]

    def test_what_is_carried_over_has_a_column(self) -> None:
        assert set(CARRIED) <= set(SCHEMA.names)


class TestAtomicity:
    def test_nothing_but_parts_is_left(self, tmp_path: Path) -> None:
        for name in "abc":
            append_part(tmp_path, [row(name)])
        assert len(list(tmp_path.glob("*.parquet"))) == 3
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_part_that_is_being_written_is_not_read(self, tmp_path: Path) -> None:
        append_part(tmp_path, [row("a")])
        (tmp_path / ".00000000000000000001-abc.parquet.part").write_bytes(b"half a part")
        (tmp_path / ".hidden.parquet").write_bytes(b"half a part")
        (tmp_path / "copy.parquet").write_bytes(b"not ours")
        assert read_manifest(tmp_path)["id"].tolist() == ["a"]

    def test_a_row_of_the_wrong_type_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(pa.ArrowException):
            append_part(tmp_path, [row("a", row="three")])
        assert list(tmp_path.iterdir()) == []

    def test_processes_that_write_at_once_lose_nothing(self, tmp_path: Path, repository: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from s3pot.store.manifest import append_part\n"
            "for number in range(30): append_part(Path(sys.argv[1]), [{'id': f'{sys.argv[2]}{number:02d}', "
            "'status': 'ok'}, {'id': 'both', 'status': 'ok', 'row': number}])"
        )
        writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name], cwd=repository) for name in "ab"]
        counts = []
        while any(writer.poll() is None for writer in writers):
            counts.append(len(read_manifest(tmp_path, ["status"])))  # a reader sees whole parts only
        assert [writer.returncode for writer in writers] == [0, 0]
        assert counts == sorted(counts)
        expected = [f"{name}{number:02d}" for name in "ab" for number in range(30)]
        frame = read_manifest(tmp_path).set_index("id")
        assert frame.index.tolist() == sorted([*expected, "both"])
        assert frame.loc["both", "row"] == 29
        assert len(list(tmp_path.iterdir())) == 60


class TestOrder:
    """What was written later counts, whatever the clocks of the writers say."""

    def test_a_clock_that_is_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        append_part(tmp_path, [row("a", initial_prompt=1)])
        monkeypatch.setattr(time, "time_ns", lambda: 1_000)
        append_part(tmp_path, [row("a", initial_prompt=2)])
        append_part(tmp_path, [row("a", initial_prompt=3)])
        assert read_manifest(tmp_path)["initial_prompt"].tolist() == [3]

    def test_a_clock_that_stands_still(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: 5_000)
        for number in range(20):
            append_part(tmp_path, [row("a", initial_prompt=number)])
        assert read_manifest(tmp_path)["initial_prompt"].tolist() == [19]


class TestWithdrawn:
    def test_images_are_not_in_the_manifest_until_they_are_written_again(self, tmp_path: Path) -> None:
        append_part(tmp_path, [row("a"), row("b")])
        append_part(tmp_path, [row("a", status=WITHDRAWN)])
        for columns in (None, ["path"], ["status"]):
            assert read_manifest(tmp_path, columns)["id"].tolist() == ["b"]
        append_part(tmp_path, [row("a", initial_prompt=5)])
        assert read_manifest(tmp_path)["id"].tolist() == ["a", "b"]


class TestDamage:
    @pytest.mark.parametrize("length", [0, 3, 100, -1])
    def test_a_truncated_part_is_named_with_the_remedy(self, tmp_path: Path, length: int) -> None:
        folder = tmp_path / "store" / "manifest"
        append_part(folder, [row("a")])
        [part] = folder.iterdir()
        part.write_bytes(part.read_bytes()[:length])
        with pytest.raises(StoreError, match=rf"{part.name}.*damaged.*verify --repair {tmp_path / 'store'}`"):
            read_manifest(folder)

    def test_a_part_that_a_compaction_took_away_is_no_damage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The listing is from before, the reading from after."""
        append_part(tmp_path, [row("a")])
        listed = manifest.list_parts(tmp_path)
        append_part(tmp_path, [row("b")])
        compact_parts(tmp_path)
        listings = iter([listed, manifest.list_parts(tmp_path)])
        monkeypatch.setattr(manifest, "list_parts", lambda folder: next(listings))
        assert read_manifest(tmp_path)["id"].tolist() == ["a", "b"]

    def test_a_listing_that_a_compaction_ran_through_is_done_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second listing came too early for the new part and too late for the old ones."""
        for name in "abc":
            append_part(tmp_path, [row(name)])
        old = os.listdir(tmp_path)
        compact_parts(tmp_path)
        new = os.listdir(tmp_path)
        listings = iter([old, old[1:], new, new])
        monkeypatch.setattr(os, "listdir", lambda folder: next(listings))
        assert [part.name for part in list_parts(tmp_path)] == new


def test_parts_say_by_their_names_what_they_hold(tmp_path: Path) -> None:
    append_part(tmp_path, [row("a")])
    [part] = tmp_path.iterdir()
    number, promised = part.stem.split("-")
    assert len(number) == 20
    assert promised == hashlib.sha256(part.read_bytes()).hexdigest()


def test_parts_are_plain_parquet_of_the_schema(tmp_path: Path) -> None:
    append_part(tmp_path, [row("a")])
    [part] = tmp_path.iterdir()
    assert pq.read_schema(part).equals(SCHEMA)
