"""A store and evaluation folders written by hand: drawn faces, no weights, no models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.results import Evaluation, read_evaluation
from s3pot.evaluation import mask_path
from s3pot.images import encode_jpeg, encode_png, write_png
from s3pot.metrics import METRIC_COLUMNS
from s3pot.store import PromptStore
from s3pot.store.manifest import append_part
from s3pot.store.prompt_store import create_empty
from tests.faces import draw_face

SIZE, GRID = 64, 8


@dataclass
class FakeResults:
    """Writes a store at `root/store` and evaluations at `root/<name>`."""

    root: Path
    evaluations: dict[str, Path] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Folder of the store, made when missing."""
        folder = self.root / "store"
        if not folder.exists():
            chain = {"sam": "nano", "prefix": {"selector": {"kind": "greedy"}}}
            create_empty(folder, "feedc0de", chain, "fp16")
        return folder

    def add_image(self, image_id: str, *, truth: bool = True, seed: int = 0, **columns: Any) -> None:
        """Append one image with every stage; its occluder is the lower half of the picture."""
        image, parsing = draw_face(SIZE, seed)
        occluder = np.zeros((SIZE, SIZE), dtype=np.uint8)
        occluder[SIZE // 2 :] = 255
        image[occluder > 0] = (20, 60, 220)
        # Not named after the id, which may be anything in these tests.
        folder = self.root / "pictures" / f"{len(list((self.root / 'pictures').glob('*')))}"
        write_png(folder / "image.png", image)
        write_png(folder / "truth.png", occluder)
        similarity = np.where(np.arange(GRID * GRID) < GRID * GRID // 2, 0.9, 0.1)
        row = {
            "id": image_id,
            "path": str(folder / "image.png"),
            "status": "ok",
            "original_height": SIZE,
            "original_width": SIZE,
            "to_original": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            "occlusion_prompts": [36, 37],
            "face_prompts": [27, 28, 29],
            "similarity": similarity.astype("<f2").tobytes(),
            "parsing_png": encode_png(parsing),
            "reference_jpeg": encode_jpeg(image),
            "truth_path": str(folder / "truth.png") if truth else None,
            "kind": "objects" if truth else None,
            "face_id": image_id if truth else None,
            "cutout_id": f"cut-{image_id}" if truth else None,
        }
        append_part(self.store / "manifest", [row | columns])

    def add_failure(self, image_id: str, error: str) -> None:
        """Append one image that could not be encoded."""
        append_part(self.store / "manifest", [{"id": image_id, "status": "failed", "error": error}])

    def evaluate(self, name: str, ious: dict[str, float | None], *, masks: bool = True, **columns: Any) -> Path:
        """Write an evaluation: IoU per image; None for an image of unknown truth, NaN for a clean face."""
        folder = self.root / name
        rows = [self._row(image_id, iou) | columns for image_id, iou in ious.items()]
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(folder / "per_image.parquet", index=False)
        (folder / "config.yaml").write_text("head: embedded\n")
        for image_id in ious if masks else ():
            mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
            mask[SIZE // 2 :] = 255
            write_png(mask_path(folder, image_id), mask)
        self.evaluations[name] = folder
        return folder

    def manifest(self) -> pd.DataFrame:
        """Return the store's rows by id."""
        return PromptStore(self.store).rows().set_index("id", drop=False)

    def read(self) -> list[Evaluation]:
        """Read all evaluations."""
        return [read_evaluation(name, folder) for name, folder in self.evaluations.items()]

    @staticmethod
    def _row(image_id: str, iou: float | None) -> dict[str, Any]:
        row: dict[str, Any] = {"id": image_id, "status": "ok", "error": None}
        row |= {"kind": None, "face_id": None, "cutout_id": None} | dict.fromkeys(METRIC_COLUMNS, np.nan)
        row |= {"occlusion_score": 0.25}
        if iou is None:
            return row
        row |= {"kind": "objects", "face_id": image_id, "cutout_id": f"cut-{image_id}", "false_positive_area": 1.5}
        if np.isnan(iou):
            return row | {"kind": "clean", "cutout_id": None, "truth_pixels": 0.0, "occlusion_score": 0.1}
        return row | {
            "iou_face_mask": iou,
            "truth_pixels": 100.0,
            "intersection": 10.0,
            "union": 20.0,
            "precision": 0.5,
        }
