from pathlib import Path

from s3pot.store.inventory import take_inventory
from tests.stored_images import add_images, empty_store


def test_what_a_store_holds(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "store", tokens="int8", sam="nano")
    add_images(store, "a", "b")
    add_images(store, "c", status="no_occlusion_prompts")
    add_images(store, "a", version=1)
    store.append([{"id": name, "status": "failed"} for name in "de"])
    store.withdraw(["e"])
    held = take_inventory(store)
    assert held.images == {"ok": 2, "no_occlusion_prompts": 1, "failed": 1}
    assert (held.schema_version, held.identity, held.tokens, held.chain) == (2, "feedc0de", "int8", {"sam": "nano"})
    assert (held.shards, held.parts, held.superseded_rows) == (3, 5, 3)
    assert held.token_bytes == sum(path.stat().st_size for path in store.shards.iterdir())
    assert held.manifest_bytes == sum(path.stat().st_size for path in store.manifest.iterdir())
    assert held.token_bytes_per_image == held.token_bytes / 3
    assert held.manifest_bytes_per_image == held.manifest_bytes / 7
    assert held.disk_free > 0


def test_an_empty_store(tmp_path: Path) -> None:
    held = take_inventory(empty_store(tmp_path / "store"))
    assert held.images == {}
    assert held.token_bytes == held.manifest_bytes == held.token_bytes_per_image == held.manifest_bytes_per_image == 0
