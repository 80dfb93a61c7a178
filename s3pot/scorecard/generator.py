"""How good the generated reference is: as a picture, and for the prompts that the chain finds with it.

Pictures are compared with the clean picture. SSIM is that of Wang et al. 2004: Gaussian window of 1.5 pixels (11 x 11),
data range 255, on R, G and B separately; its map is averaged over the channels and then over a region. L1 is the mean
absolute difference over the region and the three channels, in units of the data range (0..1).

    inside         the true occlusion: of the reference, and of what could stand in for it
    outside_face   R without the occlusion
    outside        everything but the occluder, background and hair included

Stand-ins: the occluded picture itself, OpenCV's inpainting (Telea) of the true occluder, and the mean training face.
"""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from skimage.metrics import structural_similarity

from s3pot.ladder import LadderImage
from s3pot.scorecard.estimates import Estimate, mean_of
from s3pot.scorecard.targets import occluded, occluder_extent

STAND_INS = ("occluded", "inpainted", "mean_face")
_INPAINT_RADIUS_PX = 5
# The occluder's soft edge reaches a little beyond its truth; left standing, inpainting would smear it over the hole.
_EDGE_PX = 3


def mean_face(images: Iterable[UInt8[np.ndarray, "s s 3"]]) -> UInt8[np.ndarray, "s s 3"]:
    """Average aligned faces of one size.

    Raises:
        ValueError: without faces.
    """
    total, number = np.zeros((), dtype=np.float64), 0
    for image in images:
        total, number = total + image, number + 1
    if not number:
        raise ValueError("a mean face needs at least one face")
    return (total / number + 0.5).astype(np.uint8)


def measure_references(
    images: Sequence[LadderImage],
    references: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    mean: UInt8[np.ndarray, "_ _ 3"] | None = None,
) -> pd.DataFrame:
    """Compare the references of occluded composites, and what could stand in for them, with the clean pictures.

    Args:
        images: composites; those without an occluder in the face are left out.
        references: one per composite, in its frame.
        mean: the mean face, square; None leaves its columns NaN. Resized to the picture where it has another size.

    Returns:
        One row per occluded composite: id, kind, face_id, cutout_id, `ssim_<what>` and `l1_<what>` for what =
        reference, occluded, inpainted, mean_face (all inside), ssim_outside_face, ssim_outside.
    """
    wanted = {id(entry) for entry in occluded(images)}
    rows = []
    for entry, reference in zip(images, references, strict=True):
        if id(entry) in wanted:
            known = {name: getattr(entry.row, name) for name in ("id", "kind", "face_id", "cutout_id")}
            rows.append(known | _measure_reference(entry, reference, mean))
    return pd.DataFrame(rows)


def _measure_reference(entry: LadderImage, reference: np.ndarray, mean: np.ndarray | None) -> dict[str, float]:
    inside, region = entry.truth.occlusion, entry.truth.region
    if inside is None or region is None:
        raise ValueError(f"{entry.row.id}: the scorecard needs truth and face region of every composite")
    extent, height, width = occluder_extent(entry), *entry.clean.shape[:2]
    pictures = {"reference": reference, "occluded": entry.image, "inpainted": inpaint(entry.image, extent)}
    if mean is not None:
        side = max(height, width)
        fitted = mean if mean.shape[0] == side else cv2.resize(mean, (side, side), interpolation=cv2.INTER_AREA)
        pictures["mean_face"] = fitted[:height, :width]
    row = {f"{metric}_{name}": float("nan") for metric in ("ssim", "l1") for name in ("reference", *STAND_INS)}
    for name, picture in pictures.items():
        similarity = ssim_map(picture, entry.clean)
        row[f"ssim_{name}"] = _mean(similarity, inside)
        row[f"l1_{name}"] = _mean(np.abs(picture.astype(float) - entry.clean.astype(float)).mean(axis=2) / 255, inside)
        if name == "reference":
            row["ssim_outside_face"] = _mean(similarity, region & ~extent)
            row["ssim_outside"] = _mean(similarity, ~extent)
    return row


def ssim_map(first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return the local structural similarity of two pictures, averaged over the channels, in [-1, 1]."""
    _, similarity = structural_similarity(
        first,
        second,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    averaged: Float[np.ndarray, "h w"] = similarity.mean(axis=2)
    return averaged


def inpaint(image: UInt8[np.ndarray, "h w 3"], occluder: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Fill the true occluder and its soft edge with OpenCV's inpainting (Telea)."""
    grown = cv2.dilate(occluder.astype(np.uint8), np.ones((2 * _EDGE_PX + 1, 2 * _EDGE_PX + 1), np.uint8))
    filled: UInt8[np.ndarray, "h w 3"] = cv2.inpaint(image, grown, _INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
    return filled


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def pair_prompts(ladder: pd.DataFrame) -> pd.DataFrame:
    """Pair the occlusion prompts that the generated and the clean reference give on the same composite.

    Args:
        ladder: table of `s3pot.ladder.climb` with the rungs `chain` and `clean_reference` of one head.

    Returns:
        One row per occluded composite: id, face_id, cutout_id, and for precision and recall the columns
        `<what>_generated`, `<what>_clean` and `<what>_loss` (clean minus generated; NaN where either is undefined). A
        reference without any prompt has recall 0 and no precision.
    """
    sides = {"generated": "chain", "clean": "clean_reference"}
    found = {}
    for name, rung in sides.items():
        rows = ladder[(ladder["rung"] == rung) & (ladder["truth_pixels"] > 0)].drop_duplicates("id").set_index("id")
        found[name] = rows
    table = found["generated"][["kind", "face_id", "cutout_id"]].copy()
    for what in ("precision", "recall"):
        for name in sides:
            table[f"{what}_{name}"] = found[name][f"prompt_{what}"]
        table[f"{what}_loss"] = table[f"{what}_clean"] - table[f"{what}_generated"]
    return table.reset_index()


def estimate_generator(tables: Mapping[str, pd.DataFrame], seed: int = 0) -> dict[str, Estimate]:
    """Average the tables `references` (of `measure_references`) and `prompts` (of `pair_prompts`), where given."""
    found: dict[str, Estimate] = {}
    if "prompts" in tables:
        for what in ("precision", "recall"):
            for side in ("generated", "clean", "loss"):
                column = f"{what}_{side}"
                found[f"generator/{column}"] = mean_of(tables["prompts"], column, seed)
    if "references" in tables and len(tables["references"]):
        table = tables["references"]
        for region in ("outside_face", "outside"):
            found[f"generator/ssim_{region}"] = mean_of(table, f"ssim_{region}", seed)
        for metric in ("ssim", "l1"):
            found[f"generator/{metric}_inside"] = mean_of(table, f"{metric}_reference", seed)
            for name in STAND_INS:
                found[f"generator/{metric}_over_{name}"] = _gain(table, metric, name, seed)
    return {key: estimate for key, estimate in found.items() if estimate.n}


def _gain(table: pd.DataFrame, metric: str, stand_in: str, seed: int) -> Estimate:
    """Average the paired advantage of the reference over a stand-in, positive where the reference is better."""
    mine, other = table[f"{metric}_reference"], table[f"{metric}_{stand_in}"]
    paired = table.assign(gain=mine - other if metric == "ssim" else other - mine)
    return mean_of(paired, "gain", seed, f"{stand_in.replace('_', ' ')} {other.mean():.3f}")
