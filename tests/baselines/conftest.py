"""A store of drawn faces with occluders and without, and faces made of hand-written tokens."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s3pot.alignment import FaceAligner
from s3pot.baselines.stored_face import StoredFace
from s3pot.chain import ChainConfig
from s3pot.composite import compose, unoccluded
from s3pot.composite.drawn import drawn_cutouts
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.head.records import PromptRecord
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore
from tests.faces import draw_face
from tests.stand_ins import drawn_prefix

MakeFace = Callable[[list[str], list[str], list[str]], StoredFace]


@pytest.fixture(scope="session")
def drawn_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two composites and a clean face."""
    rng, named = np.random.default_rng(0), []
    for index, cutout in enumerate([*drawn_cutouts()[:2], None]):
        face, parsing = draw_face(256, index)
        composite = compose(face, parsing, [cutout], rng) if cutout else unoccluded(face, parsing)
        named.append(NamedComposite(id=f"i{index}", face_id=f"f{index}", composite=composite, parsing=parsing))
    out = tmp_path_factory.mktemp("drawn")
    write_composites(named, out)
    return out / "manifest.parquet"


@pytest.fixture(scope="session")
def make_drawn_store(
    drawn_manifest: Path, random_weight_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], PromptStore]:
    """Encode them, with tokens of the references or without."""

    def make(keep: bool) -> PromptStore:
        import pandas as pd

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("S3POT_WEIGHTS", str(random_weight_files))
            store = PromptStore.create(tmp_path_factory.mktemp("store"), ChainConfig(alignment="none"))
        items = pd.read_parquet(drawn_manifest).astype(object).to_dict("records")
        rows = encode_images(drawn_prefix(), items, store.root, FaceAligner("none"), keep_reference_tokens=keep)
        store.append(rows)
        return store

    return make


@pytest.fixture(scope="session")
def drawn_store(make_drawn_store: Callable[[bool], PromptStore]) -> PromptStore:
    """The store with tokens of the references."""
    return make_drawn_store(True)


@pytest.fixture
def make_face() -> MakeFace:
    """Make a face of 8 x 8 tokens of 8 px from three drawings: `.` rest, `f` face, `o` occluder.

    Image tokens and reference tokens are unit vectors of 32 channels, one per letter; the full face is where the third
    drawing says `f`.
    """

    def make(image: list[str], reference: list[str], face: list[str]) -> StoredFace:
        letters = ".fo"

        def tokens(drawing: list[str]) -> torch.Tensor:
            made = torch.zeros(32, 8, 8)
            for row, line in enumerate(drawing):
                for col, letter in enumerate(line):
                    made[letters.index(letter), row, col] = 1.0
            return made

        inside = np.array([[letter == "f" for letter in line] for line in face])
        ids = torch.from_numpy(np.flatnonzero(inside))
        record = PromptRecord(id="a", image_tokens=tokens(image), occlusion_prompts=ids[:1], face_prompts=ids[1:])
        return StoredFace(
            row=SimpleNamespace(id="a"),
            record=record,
            full_face=np.repeat(np.repeat(inside, 8, axis=0), 8, axis=1),
            image_tokens=tokens(image),
            reference_tokens=tokens(reference),
            valid=torch.ones(64, dtype=torch.bool),
        )

    return make


@pytest.fixture
def half_covered(make_face: MakeFace) -> StoredFace:
    """A face of 6 x 6 tokens, of which an occluder covers the left third."""
    rest, face, seen = "........", ".ffffff.", ".ooffff."
    return make_face([rest, *[seen] * 6, rest], [rest, *[face] * 6, rest], [rest, *[face] * 6, rest])
