"""Lay occluders over clean faces, with exact truth, as a folder with a manifest.

    s3pot data composite faces=CelebAMask-HQ/train cutouts=occluders/train fold=dev composites=80 out=runs/data/dev
    s3pot data composite faces=mine/manifest.parquet parsing=embedded cutouts=things out=runs/data/mine

`faces` is a folder with images/*.jpg and labels/*.png (merged CelebAMask-HQ maps), or a manifest of `data import`;
faces are aligned square crops. `cutouts` holds one folder of pictures with alpha (PNG, WebP) per kind; hats that faces
of the same labelled folder and fold wear join them. Kinds hands, sunglasses, spectacles, masks, scarves and hats go
where such things go, all others anywhere on the face.

Deterministic by seed. Kinds get quotas, and every face and every cut-out of a kind is used once before one is used
twice. Decoys carry a seam and no occluder, so that seams give nothing away; truth enters nothing but the evaluation.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ray_jobs.job_cli import absolute, job_command, run_alone
from s3pot.composite import Composite, Cutout, compose_covering, compose_decoy, list_cutouts, load_cutout, unoccluded
from s3pot.composite.benchmark_plan import PlannedPicture, plan_benchmark
from s3pot.composite.difficulty import PRESETS, Difficulty, Preset
from s3pot.composite.harvest import worn_hats
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.config import ConfigError
from s3pot.data.clean_faces import ParsingSource, load_clean_faces
from s3pot.data.folds import Fold
from s3pot.data.manifest import read_manifest, write_manifest
from s3pot.embedded import load_parser
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.material import read_excluded
from s3pot.pretrain.samples import KIND_WEIGHTS
from s3pot.seeding import generator

_log = logging.getLogger("s3pot.data")

# Segments of natural photographs are things that nobody holds before a face: good for training, odd in a benchmark.
_TRAINING_ONLY = "segments"
_UNKNOWN_KIND_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class CompositesConfig:
    """Which composites are rendered.

    Attributes:
        faces: folder with images/ and labels/ of one split, or a manifest (.parquet).
        cutouts: folder with one folder of RGBA cut-outs per kind.
        out: folder that is written: images, clean, truth, region, parsing, manifest.parquet.
        fold: faces and cut-outs of this fold of a training split; None = all, for a `val` split.
        composites: pictures with an occluder.
        decoys: pictures with a seam and no occluder.
        clean: faces without anything on them.
        difficulty: how hard the composites are, a preset.
        knobs: single ranges of the preset `standard` changed instead; not together with another preset.
        size: side in pixels; also the size that is composited at.
        exclude: text file of face ids that are no clean bases; null = none.
        split: only faces of this split of a manifest.
        parsing: where the face parts of a manifest's faces come from: their labels, or the embedded parser.
        seed: of every draw.
    """

    faces: Path
    cutouts: Path
    out: Path
    fold: Fold | None = None
    composites: int = 80
    decoys: int = 10
    clean: int = 10
    difficulty: Preset = "standard"
    knobs: Difficulty | None = None
    size: int = 256
    exclude: Path | None = Path("experiments/excluded_faces.txt")
    split: str | None = None
    parsing: ParsingSource = "labels"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("composites", "decoys", "clean"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be at least 0, got {getattr(self, key)}")
        if not self.composites + self.decoys + self.clean:
            raise ValueError("composites, decoys and clean are all 0: nothing to render")
        if self.knobs is not None and self.difficulty != "standard":
            raise ValueError(f"knobs change the preset standard: leave out difficulty={self.difficulty} or the knobs")
        if not self.of_manifest and (self.split is not None or self.parsing != "labels"):
            raise ValueError("split and parsing go with faces=MANIFEST.parquet, not with a folder of labelled faces")

    @property
    def of_manifest(self) -> bool:
        """Whether the faces are those of a manifest."""
        return self.faces.suffix == ".parquet"

    @property
    def drawn_from(self) -> Difficulty:
        """The ranges that composites are drawn from."""
        return self.knobs or PRESETS[self.difficulty]


def render(config: CompositesConfig) -> pd.DataFrame:
    """Render and return the manifest.

    Raises:
        ConfigError: if faces or cut-outs cannot be used.
        FileNotFoundError: if there are none.
    """
    excluded = frozenset() if config.exclude is None else read_excluded(config.exclude)
    faces = _faces_of_manifest(config, excluded) if config.of_manifest else _faces_of_folder(config, excluded)
    cutouts = [load_cutout(kind, path) for kind, path in _with_alpha(list_cutouts(config.cutouts, config.fold))]
    cutouts += [] if config.of_manifest else worn_hats(config.faces, config.fold, excluded)
    by_kind: dict[str, list[str]] = {}
    for cutout in cutouts:
        by_kind.setdefault(cutout.kind, []).append(cutout.id)
    _log.info("%d faces, cut-outs: %s", len(faces), {kind: len(ids) for kind, ids in sorted(by_kind.items())})
    plan = plan_benchmark(
        faces.ids,
        by_kind,
        {kind: KIND_WEIGHTS.get(kind, _UNKNOWN_KIND_WEIGHT) for kind in by_kind if kind != _TRAINING_ONLY},
        composites=config.composites,
        decoys=config.decoys,
        clean=config.clean,
        occluders=config.drawn_from.occluders,
        seed=config.seed,
    )
    named = _composites(config, plan, faces, {cutout.id: cutout for cutout in cutouts})
    rows = write_composites(named, absolute(config.out)).to_dict("records")
    common = {
        "width": config.size,
        "height": config.size,
        "source": "composite",
        "split": config.split,
        "parsing_source": config.parsing,
    }
    manifest = write_manifest(absolute(config.out), [row | common for row in rows])
    _log.info("%d pictures: %s", len(manifest), manifest["kind"].value_counts().to_dict())
    return manifest


def _faces_of_folder(config: CompositesConfig, excluded: frozenset[str]) -> FaceBank:
    if not (config.faces / "images").is_dir():
        raise ConfigError(
            "faces",
            [
                f"{config.faces} has no folders images/ and labels/: make a manifest of it (s3pot data import "
                f"format=folder images={config.faces} ...) and say parsing=embedded where there are no labels"
            ],
        )
    return load_faces(config.faces, list_faces(config.faces, config.fold, excluded), config.size)


def _faces_of_manifest(config: CompositesConfig, excluded: frozenset[str]) -> FaceBank:
    try:
        manifest = read_manifest(absolute(config.faces))
        chosen = manifest if config.split is None else manifest[manifest["split"] == config.split]
        faces, unusable = load_clean_faces(
            chosen,
            load_parser() if config.parsing == "embedded" else None,
            most=config.composites + config.decoys + config.clean,
            size=config.size,
            fold=config.fold,
            exclude=excluded,
            seed=config.seed,
        )
    except ValueError as error:
        raise ConfigError("faces", [str(error)]) from error
    for problem in unusable:
        _log.info("no base: %s", problem)
    return faces


def _with_alpha(listed: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Refuse cut-outs without transparency: each would cover a face with its whole rectangle."""
    for _, path in listed:
        try:
            with Image.open(path) as opened:
                cut_out = opened.has_transparency_data
        except OSError as error:
            raise ConfigError("cutouts", [f"{path}: cannot be read: {error}"]) from error
        if not cut_out:
            raise ConfigError("cutouts", [f"{path}: has no alpha channel, so it is no cut-out"])
    return listed


def _composites(
    config: CompositesConfig, plan: list[PlannedPicture], faces: FaceBank, cutouts: Mapping[str, Cutout]
) -> Iterator[NamedComposite]:
    rows = {face: row for row, face in enumerate(faces.ids)}
    for number, planned in enumerate(plan):
        name = f"{number:05d}-{planned.face[:12]}"
        row = rows[planned.face]
        clean, parsing = faces.images[row], faces.parsings[row]
        donor = None if planned.donor is None else faces.images[rows[planned.donor]]
        composite = _rendered(config, planned, clean, parsing, donor, cutouts, name)
        yield NamedComposite(id=name, face_id=planned.face, composite=composite, parsing=parsing)


def _rendered(
    config: CompositesConfig,
    planned: PlannedPicture,
    clean: np.ndarray,
    parsing: np.ndarray,
    donor: np.ndarray | None,
    cutouts: Mapping[str, Cutout],
    name: str,
) -> Composite:
    if planned.role == "clean":
        return unoccluded(clean, parsing)
    if donor is not None:
        rng = generator(config.seed, "composites", name)
        return compose_decoy(clean, parsing, donor, cutouts[planned.cutouts[0]], rng, config.drawn_from)
    rest = planned.cutouts[1:]
    choices = [[cutouts[cutout] for cutout in (first, *rest)] for first in (planned.cutouts[0], *planned.spares)]

    def rng_of(attempt: int) -> np.random.Generator:
        return generator(config.seed, "composites", f"{name}/{attempt}" if attempt else name)

    return compose_covering(clean, parsing, choices, rng_of, config.drawn_from)


SMOKE: dict[str, Any] = {"composites": 4, "decoys": 1, "clean": 1}
command = job_command(CompositesConfig, render, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
