"""From a manifest row to the panels of its stages: reads the files that the row names, and says what is missing.

No fault of a file stops a report: an unreadable photograph, mask or truth becomes a sentence beside the image.
"""

import base64
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from analysis import stage_pictures
from analysis.results import Evaluation
from analysis.stage_pictures import BoolMask, PanelFrame, Picture
from s3pot.evaluation import mask_path, read_truth
from s3pot.images import decode_image, decode_png, encode_jpeg, encode_png
from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_reference, stored_similarity, stored_transform

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a row.

    Attributes:
        caption: what it shows.
        detail: a number or a word to it; may be empty.
        alt: the same for a reader who cannot see it.
        source: data URI; None: there is nothing to show.
    """

    caption: str
    detail: str
    alt: str
    source: str | None


@dataclass(kw_only=True, eq=False)
class StoredCase:
    """What the store and the disk hold of one image; None where something is missing.

    Attributes:
        row: manifest row, a named tuple of `PromptStore.rows` with absent values as None.
        frame: where its panels lie; None when nothing tells.
        photograph: in the panel.
        parsing: (h, w) uint8, aligned frame.
        reference: (h, w, 3) uint8, aligned frame.
        similarity: (tokens,) float32 of a square grid.
        complaints: sentences about what is missing.
    """

    row: Any
    frame: PanelFrame | None = None
    photograph: Picture | None = None
    parsing: npt.NDArray[np.uint8] | None = None
    reference: Picture | None = None
    similarity: npt.NDArray[np.float32] | None = None
    complaints: list[str] = field(default_factory=list)

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what `read` returns, or None after noting why it could not."""
        try:
            return read()
        except OSError as error:
            # "file: No such file or directory" rather than "[Errno 2] ...".
            self.complaints.append(
                f"{what}: {error.filename}: {error.strerror}" if error.filename else f"{what}: {error}"
            )
        except ValueError as error:
            self.complaints.append(f"{what}: {error}")
        return None


def read_cases(store: PromptStore, ids: Collection[str]) -> dict[str, StoredCase]:
    """Read photographs and stored stages of the images that the store holds."""
    rows = store.rows()
    rows = rows[rows["id"].isin(set(ids))]
    # Absent values are None or NaN, depending on the column; here they are None.
    rows = rows.astype(object).where(rows.notna(), None)
    return {row.id: read_case(row) for row in rows.itertuples(index=False)}


def read_case(row: Any) -> StoredCase:
    """Read the photograph and the stored stages of one manifest row, absent values as None."""
    case = StoredCase(row=row)
    # Without the way back to the photograph there is no aligned frame to show.
    if row.parsing_png is not None and row.to_original is not None:
        case.parsing = case.attempt("The parsing cannot be shown", lambda: stored_parsing(row))
    if row.reference_jpeg is not None:
        case.reference = case.attempt("The reference cannot be shown", lambda: stored_reference(row))
    if row.similarity is not None:
        case.similarity = case.attempt("The similarity cannot be shown", lambda: _square(stored_similarity(row)))
    picture = case.attempt("The picture cannot be shown", lambda: _photograph(row))
    if case.parsing is not None:
        case.frame = stage_pictures.panel_frame(case.parsing.shape[:2], stored_transform(row))
    elif picture is not None:
        case.frame = stage_pictures.whole_picture_frame(picture.shape[:2])
    if case.frame is not None and picture is not None:
        case.photograph = stage_pictures.warp_picture(picture, case.frame)
    return case


def similarity_limits(cases: Sequence[StoredCase]) -> tuple[float, float]:
    """Return the ends of one colour scale for all images: percentiles 1 and 99 of their tokens."""
    values = np.concatenate([np.empty(0, dtype=np.float32), *map(_shown_similarity, cases)])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values, [1, 99]))
    return (low, high) if high - low > 1e-3 else (low - 0.5, high + 0.5)


def draw_panels(
    case: StoredCase, evaluations: Sequence[Evaluation], scores: Sequence[str], limits: tuple[float, float]
) -> list[Panel]:
    """Draw every stage of one image; adds to the complaints of the case what cannot be drawn.

    Args:
        case: the image.
        evaluations: each gives a mask.
        scores: what to write below each mask.
        limits: ends of the similarity's colour scale.
    """
    if case.frame is None:
        return []
    frame, image_id = case.frame, case.row.id
    base = stage_pictures.blank_picture(frame) if case.photograph is None else case.photograph
    aligned = case.parsing is not None
    panels = [
        Panel(
            caption="Original",
            detail="aligned crop" if aligned else "whole picture",
            alt=f"{image_id}: {'aligned face crop' if aligned else 'whole picture'}",
            source=None if case.photograph is None else _jpeg(base),
        )
    ]
    panels += _prefix_panels(case, frame, base, limits)
    face = np.ones(frame.size, dtype=bool)
    if case.parsing is not None:
        face = stage_pictures.enlarge_mask(face_mask(case.parsing), frame)
    for evaluation, score in zip(evaluations, scores, strict=True):
        panels.append(_mask_panel(case, frame, base, face, evaluation, score))
    return [*panels, *_truth_panels(case, frame, base)]


def _prefix_panels(case: StoredCase, frame: PanelFrame, base: Picture, limits: tuple[float, float]) -> list[Panel]:
    panels, image_id = [], case.row.id
    if case.parsing is not None:
        present = ", ".join(CLASSES[label] for label in np.unique(case.parsing) if 0 < label < len(CLASSES))
        drawn = stage_pictures.draw_parsing(base, case.parsing, frame)
        alt = f"{image_id}: outlines of {present}"
        panels.append(Panel(caption="Parsing", detail="", alt=alt, source=_jpeg(drawn)))
    if case.reference is not None:
        drawn = stage_pictures.resize_picture(case.reference, frame)
        alt = f"{image_id}: generated face without occluder"
        panels.append(Panel(caption="Reference", detail="", alt=alt, source=_jpeg(drawn)))
    if case.similarity is not None and case.parsing is not None:
        shown = _shown_similarity(case)
        extent = f"{shown.min():.2f} to {shown.max():.2f}" if shown.size else "undefined"
        drawn = stage_pictures.draw_similarity(case.similarity, case.parsing, frame, limits)
        alt = f"{image_id}: similarity of image and reference by token, {extent}"
        panels.append(Panel(caption="Similarity", detail=extent, alt=alt, source=_png(drawn)))
        occlusion, visible = _ids(case.row.occlusion_prompts), _ids(case.row.face_prompts)
        drawn = stage_pictures.draw_prompts(base, occlusion, visible, case.similarity.size)
        alt = f"{image_id}: {len(occlusion)} occlusion prompts and {len(visible)} face prompts over the picture"
        detail = f"● {len(occlusion)}   □ {len(visible)}"
        panels.append(Panel(caption="Prompts", detail=detail, alt=alt, source=_jpeg(drawn)))
    return panels


def _shown_similarity(case: StoredCase) -> npt.NDArray[np.float32]:
    """Return the values outside padding."""
    if case.similarity is None or case.frame is None:
        return np.empty(0, dtype=np.float32)
    side = stage_pictures.grid_side(case.similarity.size)
    values = case.similarity[stage_pictures.valid_tokens(side, case.frame.size).ravel()]
    return values[np.isfinite(values)]


def _mask_panel(
    case: StoredCase, frame: PanelFrame, base: Picture, face: BoolMask, evaluation: Evaluation, score: str
) -> Panel:
    def read() -> BoolMask:
        path = mask_path(evaluation.folder, case.row.id)
        return _in_panel(decode_png(path.read_bytes(), str(path)) > 127, case.row, frame)

    source, alt = None, f"{case.row.id}: no mask of {evaluation.name}"
    if case.row.id in evaluation.images.index:
        mask = case.attempt(f"The mask of {evaluation.name} cannot be shown", read)
        if mask is not None:
            source = _jpeg(stage_pictures.draw_mask(base, mask, face, stage_pictures.OCCLUSION))
            share = 100.0 * (mask & face).sum() / max(1, face.sum())
            alt = f"{case.row.id}: occlusion predicted by {evaluation.name}, {share:.0f} % of the face"
    return Panel(caption=evaluation.name, detail=score, alt=alt, source=source)


def _truth_panels(case: StoredCase, frame: PanelFrame, base: Picture) -> list[Panel]:
    if case.row.truth_path is None:
        return []

    def read() -> tuple[BoolMask, BoolMask]:
        truth = read_truth(case.row)
        occlusion = _in_panel(truth.occlusion, case.row, frame)
        inside = np.ones(frame.size, dtype=bool) if truth.region is None else _in_panel(truth.region, case.row, frame)
        return occlusion, inside

    found = case.attempt("The truth cannot be shown", read)
    if found is None:
        return [Panel(caption="Truth", detail="", alt=f"{case.row.id}: no truth", source=None)]
    occlusion, inside = found
    drawn = stage_pictures.draw_mask(base, occlusion, inside, stage_pictures.TRUTH)
    free = not (occlusion & inside).any()
    alt = f"{case.row.id}: {'no occluder in the face region' if free else 'true occlusion'}"
    return [Panel(caption="Truth", detail="no occluder" if free else "", alt=alt, source=_jpeg(drawn))]


def _in_panel(mask: BoolMask | None, row: Any, frame: PanelFrame) -> BoolMask:
    expected = (int(row.original_height), int(row.original_width))
    if mask is None or mask.shape != expected:
        found = "none" if mask is None else mask.shape
        raise ValueError(f"expected a mask of the picture's size {expected}, got {found}")
    return stage_pictures.warp_mask(mask, frame)


def _photograph(row: Any) -> Picture:
    if row.path is None:
        raise ValueError("the manifest names no file")
    data = Path(row.path).read_bytes()
    if row.image_sha256 is not None and hashlib.sha256(data).hexdigest() != row.image_sha256:
        raise ValueError(f"{row.path} has changed since it was encoded")
    return decode_image(data, row.path)


def _square(similarity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    stage_pictures.grid_side(similarity.size)
    return similarity


def _ids(prompts: Any) -> list[int]:
    return [] if prompts is None else [int(token) for token in prompts]


def _jpeg(panel: Picture) -> str:
    # Full colour resolution: thin coloured lines blur without it.
    return _data_uri("image/jpeg", encode_jpeg(panel, 85, chroma_subsampling=False))


def _png(panel: Picture) -> str:
    return _data_uri("image/png", encode_png(panel))


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
