"""Predict occlusion with the supervised stand-in: masks of a manifest's pictures, for `evaluate` to measure.

    python ray_jobs/baseline.py manifest=runs/data/dev/manifest.parquet out=runs/baseline/dev
    python ray_jobs/evaluate.py store=runs/stores/dev masks=runs/baseline/dev

Pictures are taken as aligned faces. The masks are clipped to a store's face masks by `evaluate`, like anyone's.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.encode_inputs import read_items
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from s3pot.alignment import resize_picture, to_original_frame
from s3pot.baselines.supervised import SUPERVISED_SIZE, SupervisedSegmenter
from s3pot.embedded import device_of, load_weights
from s3pot.images import ImageError, read_image, write_png

_log = logging.getLogger("s3pot.baseline")
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """What is predicted with what.

    Attributes:
        manifest: Parquet or CSV manifest with columns `id` and `path`, or a folder of pictures; aligned faces.
        out: folder the masks `<id>.png` are written to, 255 = occluded, in the frame of the picture.
        weights: of the supervised stand-in, as `pretrain.py supervised` writes them.
        limit: at most this many pictures; 0 = all.
        device: auto, cpu, cuda or cuda:N.
    """

    manifest: Path
    out: Path
    weights: Path = Path("runs/weights/supervised_segmenter.safetensors")
    limit: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.limit < 0:
            raise ValueError(f"limit must be at least 0, got {self.limit}")


def baseline(config: BaselineConfig) -> Path:
    """Predict and write the masks; returns their folder.

    Raises:
        PartlyFailed: if pictures could not be read; all others have a mask.
        WeightsError: if the weights are missing or do not fit.
    """
    config = with_absolute_paths(config)
    segmenter = SupervisedSegmenter()
    load_weights(segmenter, config.weights)
    segmenter.to(device_of(config.device))
    items = read_items(config.manifest, config.limit)
    errors = [error for batch in _chunks(items) for error in _predict(segmenter, batch, config.out)]
    _log.info("%d of %d masks in %s", len(items) - len(errors), len(items), config.out)
    if errors:
        raise PartlyFailed(f"{len(errors)} of {len(items)} images failed, first: {errors[0]}")
    return config.out


def _chunks(items: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]


def _predict(segmenter: SupervisedSegmenter, items: list[dict[str, Any]], out: Path) -> list[ImageError]:
    """Write the masks of one batch; returns what could not be read."""
    images, errors = {}, []
    for item in items:
        try:
            images[item["id"]] = read_image(item["path"])
        except ImageError as error:
            errors.append(error)
    faces = [resize_picture(image, SUPERVISED_SIZE) for image in images.values()]
    predicted = segmenter.predict([face.image for face in faces])
    for (name, image), face, probability in zip(images.items(), faces, predicted, strict=True):
        occlusion = to_original_frame(probability, face.to_original, image.shape[:2]) > 0.5
        write_png(out / f"{name}.png", occlusion.astype(np.uint8) * 255)
    return errors


command = job_command(BaselineConfig, baseline, {"limit": 4}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
