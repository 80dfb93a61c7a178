"""Render composites with exact truth from faces with labels and cut-outs, as a folder with a manifest.

    python ray_jobs/data.py faces=CelebAMask-HQ/train cutouts=occluders/train fold=dev count=80 out=runs/data/dev

`faces` holds images/*.jpg and labels/*.png (merged CelebAMask-HQ maps), `cutouts` one folder of RGBA pictures per kind.
Deterministic by (seed, id). Every face is used before one is used twice.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ray_jobs.job_cli import absolute, job_command, run_alone
from s3pot.composite import Cutout, compose, compose_decoy, list_cutouts, load_cutout, unoccluded
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.data.folds import Fold
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.samples import draw_cutout
from s3pot.seeding import generator

_log = logging.getLogger("s3pot.data")


@dataclass(frozen=True, kw_only=True)
class CompositesConfig:
    """Which composites are rendered.

    Attributes:
        faces: folder with images/ and labels/ of one split.
        cutouts: folder with one folder of RGBA cut-outs per kind.
        out: folder that is written: images, clean, truth, region, parsing, manifest.parquet.
        fold: faces and cut-outs of this fold of a training split; None = all, for a `val` split.
        count: composites.
        decoy_share: share of pictures with a seam and no occluder, in [0, 1).
        clean_share: share of faces without anything on them, in [0, 1).
        size: side in pixels; also the size that is composited at.
        exclude: text file of face ids that are no clean bases.
        seed: of every draw.
    """

    faces: Path
    cutouts: Path
    out: Path
    fold: Fold | None = None
    count: int = 80
    decoy_share: float = 0.1
    clean_share: float = 0.1
    size: int = 256
    exclude: Path = Path("experiments/excluded_faces.txt")
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        for key in ("decoy_share", "clean_share"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise ValueError(f"{key} must lie in [0, 1), got {getattr(self, key)}")


def render(config: CompositesConfig) -> pd.DataFrame:
    """Render and return the manifest."""
    excluded = {line.split("#")[0].strip() for line in config.exclude.read_text().splitlines()}
    faces = load_faces(config.faces, list_faces(config.faces, config.fold, excluded), config.size)
    cutouts = [load_cutout(kind, path) for kind, path in list_cutouts(config.cutouts, config.fold)]
    _log.info("%d faces, %d cut-outs", len(faces), len(cutouts))
    manifest = write_composites(_composites(config, faces, cutouts), absolute(config.out))
    _log.info("%d pictures: %s", len(manifest), manifest["kind"].value_counts().to_dict())
    return manifest


def _composites(config: CompositesConfig, faces: FaceBank, cutouts: list[Cutout]) -> Iterator[NamedComposite]:
    order = generator(config.seed, "composites", "order").permutation(len(faces))
    for number in range(config.count):
        row = int(order[number % len(faces)])
        name = f"{number:05d}-{faces.ids[row][:12]}"
        rng = generator(config.seed, "composites", name)
        clean, parsing = faces.images[row], faces.parsings[row]
        draw = rng.random()
        if draw < config.clean_share:
            composite = unoccluded(clean, parsing)
        elif draw < config.clean_share + config.decoy_share:
            donor = faces.images[int(rng.integers(len(faces)))]
            composite = compose_decoy(clean, parsing, donor, draw_cutout(cutouts, rng), rng)
        else:
            composite = compose(clean, parsing, [draw_cutout(cutouts, rng)], rng)
        yield NamedComposite(id=name, face_id=faces.ids[row], composite=composite, parsing=parsing)


SMOKE: dict[str, Any] = {"count": 4}
command = job_command(CompositesConfig, render, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
