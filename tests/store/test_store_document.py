"""docs/store.md says what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import safe_open

from s3pot.store import PromptStore
from s3pot.store.manifest import SCHEMA, SCHEMA_VERSION, STATUSES
from s3pot.store.shards import read_row, write_shard
from s3pot.store.token_format import TokenFormat
from tests.stored_images import add_images, empty_store, tokens_of


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "docs" / "store.md").read_text(encoding="utf-8")


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this heading."""
    _, _, rest = document.partition(f"\n| {heading} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    assert lines, f"no table of {heading}"
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_version(document: str) -> None:
    assert f"schema version {SCHEMA_VERSION}\n" in document


def test_every_column_with_type_and_nullability(document: str) -> None:
    described = [
        (name, kind.replace("&lt;", "<").replace("&gt;", ">"), null)
        for name, kind, null, _ in table(document, "column")
    ]

    def type_text(kind: pa.DataType) -> str:
        return f"list<{kind.value_type}>" if pa.types.is_list(kind) else str(kind)

    assert described == [(field.name, type_text(field.type), "yes" if field.nullable else "no") for field in SCHEMA]


def test_every_column_has_a_meaning_and_nullable_ones_say_when(document: str) -> None:
    for name, _, null, meaning in table(document, "column"):
        assert len(meaning) > 8, name
        if null == "yes" and name not in ("error", "seconds"):
            assert "null" in meaning, name


def test_every_status(document: str) -> None:
    assert {name for name, _ in table(document, "status")} == set(STATUSES)


def test_every_key_of_the_description(document: str, tmp_path: Path) -> None:
    empty_store(tmp_path / "store")
    written = json.loads((tmp_path / "store" / "store.json").read_text())
    assert [name for name, _ in table(document, "key")] == list(written)


@pytest.mark.parametrize("tokens", ["fp16", "int8"])
def test_every_tensor(document: str, tmp_path: Path, tokens: TokenFormat) -> None:
    both = {name: [tokens_of("a")] for name in ("image_tokens", "reference_tokens")}
    with safe_open(tmp_path / write_shard(tmp_path, ["a"], both, tokens), framework="np") as opened:
        found = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}
        assert list(opened.metadata()) == ["ids"]
    described = {name: (kind, when) for name, _, kind, when in table(document, "tensor")}
    for name, kind in found.items():
        stem = re.sub(r"^\w+_tokens_", "<name>_", name)
        assert kind in described[stem][0], name
    expected = {"image_tokens", "reference_tokens"}
    if tokens == "int8":
        expected |= {f"{name}_{part}" for name in expected for part in ("scale", "offset")}
    assert set(found) == expected


@pytest.mark.parametrize("tokens", ["fp16", "int8"])
def test_the_program_reads_a_store_without_s3pot(document: str, tmp_path: Path, tokens: TokenFormat) -> None:
    store = empty_store(tmp_path / "store", tokens=tokens)
    add_images(store, "a", "b")
    add_images(store, "c")
    add_images(store, "a", version=1)
    store.append([{"id": "d", "status": "failed"}])
    store.withdraw(["c"])
    [program] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    assert "s3pot" not in program
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, store.root], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    sums = {record.id: f"{record.image_tokens.double().sum():.4f}" for record in PromptStore(store.root).records()}
    assert done.stdout.splitlines() == [
        f"a ok (32, 8, 8) {sums['a']} [1]",
        f"b ok (32, 8, 8) {sums['b']} [0]",
        "d failed",
    ]


def test_names_are_what_sha256sum_prints(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "store")
    shard = add_images(store, "a")
    said = subprocess.run(["sha256sum", store.shards / shard], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] + ".safetensors" == shard
    assert read_row(store.shards / shard, "image_tokens", 0).shape == (32, 8, 8)
