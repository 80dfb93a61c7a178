import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pandas.testing import assert_frame_equal

from s3pot.store import StoreError, compaction
from s3pot.store.compaction import compact_parts, maintenance, read_all_rows
from s3pot.store.manifest import WITHDRAWN, append_part, list_parts, part_number, read_manifest
from s3pot.store.verification import verify
from tests.stored_images import add_images, empty_store, names_in, tokens_of


def row(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "path": f"{name}.png", "status": "ok"} | values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty small parts; images are in several, some withdrawn, some withdrawn and written again."""
    for number in range(40):
        append_part(tmp_path, [row(f"{number % 16:02d}", row=number, face_prompts=[number], parsing_png=b"png")])
    append_part(tmp_path, [row("03", status=WITHDRAWN), row("04", status=WITHDRAWN), row("unknown", status=WITHDRAWN)])
    append_part(tmp_path, [row("04", row=100)])
    append_part(tmp_path, [])
    return tmp_path


def test_rows_stay_and_files_become_few(folder: Path) -> None:
    before = read_manifest(folder)
    assert before.set_index("id").loc[["04", "05"], "row"].tolist() == [100, 37]
    compact_parts(folder)
    assert_frame_equal(read_manifest(folder), before)
    [part] = list_parts(folder)
    rows = read_all_rows([part], [])
    assert rows["counts"].all()
    assert len(rows) == len(before) == 15
    assert names_in(folder) == [part.name]


def test_what_is_written_later_still_counts(folder: Path) -> None:
    compact_parts(folder)
    append_part(folder, [row("05", row=7)])
    append_part(folder, [row("06", status=WITHDRAWN)])
    frame = read_manifest(folder).set_index("id")
    assert frame.loc["05", "row"] == 7
    assert "06" not in frame.index


def test_what_was_written_meanwhile_still_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer comes between the reading of the old parts and the writing of the new one."""
    write = compaction.write_parts

    def after_another(*arguments: Any) -> Any:
        append_part(folder, [row("05", row=7), row("06", status=WITHDRAWN), row("new")])
        return write(*arguments)

    monkeypatch.setattr(compaction, "write_parts", after_another)
    compact_parts(folder)
    frame = read_manifest(folder).set_index("id")
    assert len(list_parts(folder)) == 2
    assert frame.loc["05", "row"] == 7
    assert "06" not in frame.index
    assert "new" in frame.index


@pytest.mark.parametrize("survived", [0, 1, 20, 40, 42])
def test_a_compaction_that_was_killed_changes_nothing(
    folder: Path, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, unlink, left = read_manifest(folder), Path.unlink, [survived]

    def dies(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        unlink(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            compact_parts(folder)
    assert len(list_parts(folder)) > 1
    assert_frame_equal(read_manifest(folder), before)
    compact_parts(folder)
    assert_frame_equal(read_manifest(folder), before)
    assert len(list_parts(folder)) == 1


def test_large_parts_whose_rows_all_count_are_left_alone(tmp_path: Path) -> None:
    """Pictures that do not compress, so that a part of a thousand rows is large."""
    large = 100_000

    def rows(first: int, count: int) -> list[dict[str, Any]]:
        return [
            row(f"{number:05d}", parsing_png=number.to_bytes(4, "big") * 250) for number in range(first, first + count)
        ]

    for first in range(0, 400, 10):
        append_part(tmp_path, rows(first, 10))
    compact_parts(tmp_path, large=large)
    parts = list_parts(tmp_path)
    assert 2 < len(parts) < 6
    append_part(tmp_path, rows(400, 10))
    before = read_manifest(tmp_path)
    untouched = {part for part in parts if part.stat().st_size >= large // 4}
    compact_parts(tmp_path, large=large)
    assert untouched <= set(list_parts(tmp_path))
    append_part(tmp_path, [row("00000", status=WITHDRAWN)])
    compact_parts(tmp_path, large=large)
    assert not read_all_rows(list_parts(tmp_path), [])["id"].eq("00000").any()
    assert_frame_equal(read_manifest(tmp_path), before.iloc[1:].reset_index(drop=True))


def test_rows_that_moved(folder: Path) -> None:
    append_part(folder, [row("x", shard="old", row=1), row("y", shard="old", row=2), row("z", shard="other", row=1)])
    before = read_manifest(folder)
    compact_parts(folder, {("old", 1): ("new", 3), ("old", 2): ("new", 4), ("away", 0): ("no", 0)})
    after = read_manifest(folder)
    assert after.tail(3)[["shard", "row"]].values.tolist() == [["new", 3], ["new", 4], ["other", 1]]
    assert_frame_equal(after[:-3], before[:-3])


def test_the_number_is_that_of_the_newest_part(folder: Path) -> None:
    newest = part_number(list_parts(folder)[-1])
    compact_parts(folder)
    assert part_number(list_parts(folder)[0]) == newest


def test_an_empty_manifest(tmp_path: Path) -> None:
    compact_parts(tmp_path / "missing")
    append_part(tmp_path, [row("a")])
    append_part(tmp_path, [row("a", status=WITHDRAWN)])
    compact_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_rows_in_the_order_of_writing(tmp_path: Path) -> None:
    append_part(tmp_path, [row("b", row=1), row("a", row=2)])
    append_part(tmp_path, [row("b", row=3)])
    append_part(tmp_path, [row("a", status=WITHDRAWN)])
    rows = read_all_rows(list_parts(tmp_path), ["row"])
    assert rows["id"].tolist() == ["b", "a", "b", "a"]
    assert rows["row"].tolist()[:3] == [1, 2, 3]
    assert rows["part"].tolist() == [0, 0, 1, 2]
    assert rows["counts"].tolist() == [False, False, True, False]


def test_processes_that_write_while_another_compacts_lose_nothing(tmp_path: Path, repository: Path) -> None:
    """Two writers of shards and rows, one of which also takes an image back and writes it again."""
    store = empty_store(tmp_path / "store")
    code = (
        "import sys; from pathlib import Path; from s3pot.store import PromptStore; "
        "from tests.stored_images import add_images\n"
        "store, name = PromptStore(Path(sys.argv[1])), sys.argv[2]\n"
        "for number in range(40):\n"
        "    add_images(store, f'{name}{number:02d}', f'{name}{number:02d}x')\n"
        "    if name == 'b' and number: store.withdraw(['b00']); add_images(store, 'b00', version=number)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, store.root, name], cwd=repository) for name in "ab"]
    seen, rounds = 0, 0
    while any(writer.poll() is None for writer in writers):
        ids = set(store.rows(["status"])["id"]) - {"b00"}
        assert len(ids) >= seen
        seen, rounds = len(ids), rounds + bool(ids)
        with maintenance(store.root):
            compact_parts(store.manifest)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert rounds > 1, "was anything compacted while they wrote?"
    expected = [f"{name}{number:02d}{more}" for name in "ab" for number in range(40) for more in ("", "x")]
    assert store.records().ids == expected
    assert torch.equal(store.records({"b00"})[0].image_tokens, tokens_of("b00", 39))
    assert verify(store) == []


def test_only_one_at_a_time(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "store")
    with maintenance(store.root):
        with pytest.raises(StoreError, match="another process"), maintenance(store.root):
            pass
        add_images(store, "a")  # writers and readers go on
        assert store.rows()["id"].tolist() == ["a"]
    with maintenance(store.root):
        pass
    assert names_in(store.root) == ["manifest", "shards", "store.json"]
