"""One picture of the chain: the panels of one image side by side, with their captions. The README shows one."""

import base64
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.case_panels import Panel, draw_panels, read_cases, similarity_limits
from analysis.results import Evaluation, read_evaluation
from s3pot.images import decode_image, write_png
from s3pot.store.prompt_store import PromptStore

_GAP, _CAPTION = 6, 26
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def write_chain_picture(store: Path, evaluation: Path, out: Path) -> Path:
    """Draw the occluded image with the median IoU of an evaluation: neither its best nor its worst case.

    Args:
        store: folder of the store.
        evaluation: evaluation folder; it gives the mask.
        out: PNG file.

    Raises:
        ValueError: if no image of the evaluation has truth.
    """
    evaluated = read_evaluation("Occlusion", evaluation)
    image_id = _median_image(evaluated)
    case = read_cases(PromptStore(store), [image_id])[image_id]
    panels = draw_panels(case, [evaluated], [""], similarity_limits([case]))
    write_png(out, _side_by_side([panel for panel in panels if panel.source is not None]))
    return out


def _median_image(evaluation: Evaluation) -> str:
    iou = evaluation.images["iou_face_mask"].dropna().sort_values()
    if iou.empty:
        raise ValueError(f"{evaluation.folder}: no image with truth to draw")
    return str(iou.index[len(iou) // 2])


def _side_by_side(panels: list[Panel]) -> np.ndarray:
    """Paste panels into a row, captions above; returns (H, W, 3) uint8."""
    pictures = [_picture(panel) for panel in panels]
    height = max(picture.height for picture in pictures) + _CAPTION
    width = sum(picture.width + _GAP for picture in pictures) - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, left = ImageDraw.Draw(sheet), 0
    for panel, picture in zip(panels, pictures, strict=True):
        pen.text((left + 2, 4), panel.caption, fill=_INK, font=ImageFont.load_default(15))
        sheet.paste(picture, (left, _CAPTION))
        left += picture.width + _GAP
    return np.asarray(sheet)


def _picture(panel: Panel) -> Image.Image:
    data = base64.b64decode(str(panel.source).partition(",")[2])
    return Image.fromarray(decode_image(data, panel.caption))
