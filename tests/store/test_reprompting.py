"""Other prompts from stored tokens: as if encoded anew, but for what fp16 takes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig, load_prefix
from s3pot.images import write_png
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.store.encoding import encode_images
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore, stored_similarity
from s3pot.store.reprompting import reprompt_images, token_chain
from s3pot.store.verification import verify
from tests.stand_ins import textured_face

pytestmark = pytest.mark.usefixtures("random_weights")
BASE = ChainConfig(alignment="none")
IDS = ("a", "b", "c", "d")


def _chain(**prefix: object) -> ChainConfig:
    return ChainConfig(alignment="none", prefix=PrefixConfig(**prefix))  # type: ignore[arg-type]


def _encode(
    root: Path, chain: ChainConfig, pictures: Path, ids: tuple[str, ...] = IDS, *, keep: bool = True
) -> PromptStore:
    store = PromptStore.create(root, chain)
    prefix = load_prefix(chain)
    items = [{"id": name, "path": str(pictures / f"{name}.png"), "kind": "hands"} for name in ids]
    store.append(encode_images(prefix, items, root, FaceAligner("none"), keep_reference_tokens=keep))
    return store


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three faces, one of another shape, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(IDS[:3]):
        image = textured_face(number)[0]
        write_png(folder / f"{name}.png", np.ascontiguousarray(image[:200]) if name == "c" else image)
    (folder / "d.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def source(tmp_path: Path, pictures: Path) -> PromptStore:
    return _encode(tmp_path / "source", BASE, pictures)


@pytest.mark.parametrize(
    "chain",
    [
        _chain(feature_enhancement=True),
        _chain(selector=SelectorConfig(kind="otsu")),
        _chain(selector=SelectorConfig(kind="threshold", tau=0.9, centered=True)),
        _chain(feature_enhancement=True, initial_prompt="random", most_prompts=5, seed=3),
        replace(_chain(feature_enhancement=True), enhance_point_only=True),
    ],
    ids=["enhanced", "otsu", "centred threshold", "random point, few prompts", "point only"],
)
def test_it_is_as_encoding_anew(chain: ChainConfig, source: PromptStore, pictures: Path, tmp_path: Path) -> None:
    anew = _encode(tmp_path / "anew", chain, pictures).rows()
    made = reprompt_images(source, tmp_path / "made", chain, IDS)
    assert made.description["identity"] != source.description["identity"]
    rows = made.rows()
    for name in ("id", "path", "status", "error", "kind", "image_sha256", "key", "original_height", "parsing_png"):
        assert rows[name].fillna(0).tolist() == anew[name].fillna(0).tolist(), name
    changed = total = 0
    for one, other in zip(rows.itertuples(), anew.itertuples(), strict=True):
        if one.status == "failed":
            continue
        assert one.initial_prompt == other.initial_prompt
        np.testing.assert_allclose(stored_similarity(one), stored_similarity(other), atol=2e-3)
        changed += len(set(one.occlusion_prompts) ^ set(other.occlusion_prompts))
        total += len(other.occlusion_prompts) + len(other.face_prompts)
    # Random weights make every token alike: more near-ties than with any trained SAM.
    assert changed <= 0.02 * total
    assert total > 0
    assert (verify(made, in_flight_s=0.0), len(made.records())) == ([], len(source.records()))


def test_shards_are_shared_and_the_source_stays(source: PromptStore, tmp_path: Path) -> None:
    before = source.rows()
    made = reprompt_images(source, tmp_path / "made", _chain(feature_enhancement=True), IDS)
    [shard] = [path.name for path in made.shards.iterdir()]
    assert os.path.samefile(source.shards / shard, made.shards / shard)
    assert source.rows().equals(before)


def test_only_what_is_missing_or_changed_is_done(source: PromptStore, pictures: Path, tmp_path: Path) -> None:
    chain = _chain(feature_enhancement=True)
    made = reprompt_images(source, tmp_path / "made", chain, ("a",))
    assert made.rows()["id"].tolist() == ["a"]
    parts = {path.name for path in made.manifest.iterdir()}
    reprompt_images(source, tmp_path / "made", chain, ("a",))
    assert {path.name for path in made.manifest.iterdir()} == parts
    other = tmp_path / "other"
    other.mkdir()
    write_png(other / "a.png", textured_face(7)[0])
    _encode(source.root, BASE, other, ("a",))  # the file has changed
    reprompt_images(source, tmp_path / "made", chain, ("a", "b", "unknown"))
    [a, b] = made.rows().itertuples()
    assert (a.image_sha256, b.id) == (source.rows()["image_sha256"][0], "b")
    assert a.shard == source.rows()["shard"][0]


def test_tokens_of_another_chain_are_refused(source: PromptStore, tmp_path: Path) -> None:
    for chain in (_chain(face_completion="none"), _chain(reference_degradation=0.5)):
        with pytest.raises(StoreError, match="not those of this chain"):
            reprompt_images(source, tmp_path / "made", chain, IDS)


def test_a_source_without_reference_tokens_is_one_sentence(pictures: Path, tmp_path: Path) -> None:
    bare = _encode(tmp_path / "bare", BASE, pictures, keep=False)
    with pytest.raises(StoreError, match="keep_reference_tokens=true, into a new folder"):
        reprompt_images(bare, tmp_path / "made", _chain(feature_enhancement=True), IDS)


def test_chains_that_share_tokens() -> None:
    for same in (
        _chain(feature_enhancement=True, initial_prompt="random", seed=4),
        _chain(selector=SelectorConfig(kind="otsu"), most_prompts=3),
        replace(BASE, enhance_point_only=True),
    ):
        assert token_chain(same) == token_chain(BASE) == BASE
    for other in (_chain(face_completion="fill"), _chain(reference_degradation=1.0), replace(BASE, size=512)):
        assert token_chain(other) != BASE
    noisy = _chain(fresh_noise=True, seed=4)
    assert token_chain(noisy) != token_chain(_chain(fresh_noise=True, seed=5)), "the reference is drawn with it"
