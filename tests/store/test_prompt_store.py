import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s3pot.chain import ChainConfig
from s3pot.embedded import load_nano_sam, save_weights
from s3pot.images import encode_jpeg, encode_png
from s3pot.prefix import PrefixConfig
from s3pot.sam.sizes import build_sam
from s3pot.store import PromptStore, StoreError
from s3pot.store.keys import image_key
from s3pot.store.prompt_store import stored_parsing, stored_reference, stored_similarity, stored_transform
from s3pot.store.shards import write_shard
from tests.faces import draw_face
from tests.stand_ins import random_record
from tests.stored_images import add_images, empty_store, tokens_of

pytestmark = pytest.mark.usefixtures("random_weights")
CHAIN = ChainConfig(alignment="none")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "stores" / "some"


def add(store: PromptStore, *names: str, status: str = "ok", **values: Any) -> None:
    """Write images of these ids, with random tokens and prompts, as one shard and one part."""
    records = [random_record(name, 3, 5) for name in names]
    tensors = {"image_tokens": [record.image_tokens for record in records]}
    shard = write_shard(store.root / "shards", names, tensors)
    store.append(
        [
            {
                "id": record.id,
                "status": status,
                "shard": shard,
                "row": row,
                "occlusion_prompts": record.occlusion_prompts.tolist(),
                "face_prompts": record.face_prompts.tolist(),
            }
            | values
            for row, record in enumerate(records)
        ]
    )


class TestIdentity:
    def test_its_sam_is_loaded_and_that_of_other_weights_refused(
        self, root: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = PromptStore.create(root, CHAIN)
        expected = load_nano_sam().state_dict()
        for name, tensor in store.load_sam("cpu").state_dict().items():
            assert torch.equal(tensor, expected[name])
        for file in random_weights.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        save_weights(build_sam("nano", seed=1), tmp_path / "nano_sam.safetensors", {"model": "nano_sam"})
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        with pytest.raises(StoreError, match=r"other weights.*or set S3POT_WEIGHTS"):
            store.load_sam("cpu")

    def test_a_new_store_is_opened_again(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        add(store, "a")
        assert PromptStore.create(root, CHAIN).rows()["id"].tolist() == ["a"]
        opened = PromptStore(root)
        assert opened.description == store.description
        opened.check_made_by(CHAIN)
        assert sorted(path.name for path in root.iterdir()) == ["manifest", "shards", "store.json"]

    @pytest.mark.parametrize(
        "other",
        [
            ChainConfig(alignment="detect"),
            ChainConfig(alignment="none", enhance_point_only=True),
            ChainConfig(alignment="none", prefix=PrefixConfig(face_completion="none")),
        ],
    )
    def test_another_configuration_is_refused(self, root: Path, other: ChainConfig) -> None:
        PromptStore.create(root, CHAIN)
        with pytest.raises(StoreError, match=r"another configuration or other weights.*encode into a new folder"):
            PromptStore.create(root, other)
        with pytest.raises(StoreError, match=str(root)):
            PromptStore(root).check_made_by(other)

    def test_other_weights_are_refused(
        self, root: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        PromptStore.create(root, CHAIN)
        elsewhere = tmp_path / "weights"
        elsewhere.mkdir()
        for file in random_weights.iterdir():
            (elsewhere / file.name).write_bytes(file.read_bytes())
        monkeypatch.setenv("S3POT_WEIGHTS", str(elsewhere))
        PromptStore.create(root, CHAIN)  # the same weights at another place
        retrained = tmp_path / "retrained"
        retrained.mkdir()
        for file in random_weights.iterdir():
            (retrained / file.name).write_bytes(file.read_bytes() + (b" " if file.stem == "nano_sam" else b""))
        monkeypatch.setenv("S3POT_WEIGHTS", str(retrained))
        with pytest.raises(StoreError, match="other weights"):
            PromptStore.create(root, CHAIN)

    def test_the_device_does_not_count_and_is_not_kept(self, root: Path) -> None:
        PromptStore.create(root, replace(CHAIN, device="cuda:3"))
        store = PromptStore.create(root, replace(CHAIN, device="cpu"))
        assert store.chain == replace(CHAIN, device="auto")

    def test_the_chain_comes_back(self, root: Path) -> None:
        chain = replace(CHAIN, prefix=PrefixConfig(feature_enhancement=False, seed=7))
        PromptStore.create(root, chain)
        assert PromptStore(root).chain == chain


class TestNoStore:
    def test_an_empty_folder_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"no store here.*s3pot encode"):
            PromptStore(tmp_path)

    def test_another_schema_version(self, root: Path) -> None:
        PromptStore.create(root, CHAIN)
        description = json.loads((root / "store.json").read_text())
        (root / "store.json").write_text(json.dumps(description | {"schema_version": 99}))
        with pytest.raises(StoreError, match=r"schema version 99.*encode again"):
            PromptStore(root)

    def test_a_store_without_rows_has_no_records(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        assert len(store.rows()) == len(store.records()) == 0

    @pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 2}', '{"schema_version"'])
    def test_a_damaged_description(self, root: Path, content: str) -> None:
        PromptStore.create(root, CHAIN)
        (root / "store.json").write_text(content)
        with pytest.raises(StoreError, match=r"store\.json: damaged \(.*encode into a new folder"):
            PromptStore(root)


class TestTokens:
    def test_are_decided_when_the_store_is_made(self, root: Path) -> None:
        assert PromptStore.create(root, CHAIN, "int8").tokens == "int8"
        assert PromptStore.create(root, CHAIN).tokens == "int8"
        assert json.loads((root / "store.json").read_text())["tokens"] == "int8"
        with pytest.raises(StoreError, match=r"keeps its tokens as int8, not as fp16: encode into a new folder"):
            PromptStore.create(root, CHAIN, "fp16")

    def test_are_fp16_by_themselves(self, root: Path) -> None:
        assert PromptStore.create(root, CHAIN).tokens == "fp16"

    def test_int8_records_are_close_to_fp16_ones(self, tmp_path: Path) -> None:
        for form in ("fp16", "int8"):
            add_images(empty_store(tmp_path / form, tokens=form), "a", "b")
        for exact, rounded in zip(*(PromptStore(tmp_path / form).records() for form in ("fp16", "int8")), strict=True):
            assert rounded.image_tokens.dtype == exact.image_tokens.dtype == torch.float16
            wrong = (rounded.image_tokens.float() - exact.image_tokens.float()).abs()
            assert 0 < wrong.max() < 0.02


class TestKeys:
    def test_rows_of_read_images_have_one(self, root: Path) -> None:
        store = empty_store(root, identity="feedc0de")
        store.append([{"id": "a", "status": "ok", "image_sha256": "12ab"}, {"id": "b", "status": "failed"}])
        # echo -n "12ab feedc0de" | sha256sum
        expected = "1f2a406b3f4412ee9d59b4c6485e2f8701760b986f4d6f3826b3221859db1f7e"
        assert store.rows(["key"])["key"].tolist() == [image_key("12ab", "feedc0de"), None]
        assert store.key_of("12ab") == expected

    def test_of_another_chain_or_image_are_others(self) -> None:
        assert len({image_key("a", "x"), image_key("a", "y"), image_key("b", "x")}) == 3


class TestWithdraw:
    def test_images_are_missing_until_they_are_encoded_again(self, root: Path) -> None:
        store = empty_store(root)
        add_images(store, "a", "b")
        assert store.withdraw(["b", "unknown"]) == ["b"]
        assert store.rows()["id"].tolist() == store.records().ids == ["a"]
        add_images(store, "b", version=1)
        records = store.records()
        assert records.ids == ["a", "b"]
        assert torch.equal(records[1].image_tokens, tokens_of("b", 1))

    def test_nothing_to_withdraw_writes_nothing(self, root: Path) -> None:
        store = empty_store(root)
        assert store.withdraw([]) == store.withdraw(["unknown"]) == []
        assert not store.manifest.exists()

    def test_a_photograph_goes_with_all_its_faces(self, root: Path) -> None:
        names = ("a.jpg", "a.jpg#2", "a.jpg#3", "b.jpg")
        for folder, faces, expected in (
            ("all", "all", ["a.jpg", "a.jpg#2", "a.jpg#3"]),
            ("main", "main", ["a.jpg"]),
        ):
            store = empty_store(root / folder, faces=faces)
            add_images(store, *names)
            assert store.rows_of(["a.jpg"]) == store.withdraw(["a.jpg"]) == expected
        assert store.withdraw(["a.jpg#2"]) == ["a.jpg#2"]


def test_a_truncated_shard_in_training_is_a_sentence(root: Path) -> None:
    store = empty_store(root)
    path = store.shards / add_images(store, "a")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=rf"{path.name}.*`s3pot store verify --repair {root}` marks.*`s3pot encode`"):
        store.records()[0]


class TestRecords:
    def test_are_sorted_by_id_whatever_shard_they_lie_in(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        add(store, "d", "a")
        add(store, "c", "b")
        records = store.records()
        assert records.ids == ["a", "b", "c", "d"]
        assert len(records) == 4
        for place, name in enumerate("abcd"):
            expected, found = random_record(name, 3, 5), records[place]
            assert found.id == name
            assert torch.equal(found.image_tokens, expected.image_tokens)
            assert torch.equal(found.occlusion_prompts, expected.occlusion_prompts)
            assert torch.equal(found.face_prompts, expected.face_prompts)

    def test_only_of_some_images(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        add(store, "a", "b", "c")
        assert store.records({"c", "a", "unknown"}).ids == ["a", "c"]
        assert store.records(set()).ids == []

    def test_leave_out_images_without_any_prompts(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        add(store, "a")
        add(store, "b", status="no_face")
        store.append([{"id": "c", "status": "failed", "error": "cut short"}])
        add(store, "d", status="no_occlusion_prompts", occlusion_prompts=[])
        add(store, "e", status="no_face_prompts", face_prompts=[])
        records = store.records()
        assert records.ids == ["a", "d", "e"]
        assert records[1].occlusion_prompts.tolist() == []
        assert records[1].occlusion_prompts.dtype == records[2].face_prompts.dtype == torch.int64

    def test_an_image_that_was_encoded_again_counts_once(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        store.append([{"id": "a", "status": "failed", "error": "the disk was away"}])
        add(store, "a")
        assert store.records().ids == ["a"]

    def test_positions_are_those_of_a_list(self, root: Path) -> None:
        store = PromptStore.create(root, CHAIN)
        add(store, "a", "b", "c")
        records = store.records()
        assert records[-1].id == "c"
        assert [record.id for record in records] == ["a", "b", "c"]  # iteration ends with IndexError
        for outside in (3, -4):
            with pytest.raises(IndexError):
                records[outside]


def test_small_arrays_come_back(root: Path, rng: np.random.Generator) -> None:
    image, parsing = draw_face(64)
    similarity = rng.uniform(-1, 1, 64).astype("<f2")
    store = PromptStore.create(root, CHAIN)
    transform = [2.0, 0.0, 0.5, 0.0, 3.0, 1.0]
    add(
        store,
        "a",
        parsing_png=encode_png(parsing),
        reference_jpeg=encode_jpeg(image),
        similarity=similarity.tobytes(),
        to_original=transform,
    )
    [row] = store.rows().itertuples()
    np.testing.assert_array_equal(stored_parsing(row), parsing)
    assert np.abs(stored_reference(row).astype(int) - image).mean() < 4
    np.testing.assert_array_equal(stored_similarity(row), similarity.astype(np.float32))
    assert stored_transform(row).tolist() == [[2.0, 0.0, 0.5], [0.0, 3.0, 1.0]]


def test_reference_tokens_are_there_when_they_were_kept(root: Path) -> None:
    store = PromptStore.create(root, CHAIN)
    add(store, "a")
    kept = torch.ones(4, 2, 2)
    shard = write_shard(root / "shards", ["b"], {"image_tokens": [kept], "reference_tokens": [kept * 3]})
    store.append([{"id": "b", "status": "ok", "shard": shard, "row": 0}])
    without, with_them = store.rows().itertuples()
    assert (store.reference_tokens(with_them) == 3).all()
    with pytest.raises(KeyError, match="keep_reference_tokens"):
        store.reference_tokens(without)
