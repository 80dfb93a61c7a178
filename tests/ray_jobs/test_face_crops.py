from pathlib import Path

import numpy as np
import pandas as pd

from ray_jobs.face_crops import FaceCropsConfig, face_crops
from s3pot.images import read_image
from s3pot.store.prompt_store import PromptStore


def test_crops_are_what_the_chain_saw(astronaut_store: PromptStore, tmp_path: Path) -> None:
    manifest = face_crops(FaceCropsConfig(store=astronaut_store.root, out=tmp_path))
    rows = astronaut_store.rows().set_index("id")
    assert manifest["id"].tolist() == rows.index.tolist()
    for row in pd.read_parquet(tmp_path / "manifest.parquet").itertuples():
        # The store is one of aligned pictures: its crops are the files.
        np.testing.assert_array_equal(read_image(row.path), read_image(rows.loc[row.id, "path"]))
        assert row.to_original.tolist() == [1, 0, 0, 0, 1, 0]
