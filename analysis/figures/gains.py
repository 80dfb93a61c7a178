"""What overfitting gains per image: a histogram, and IoU after against before."""

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import Drawing, styled
from s3pot.metrics import Interval

_BINS = 17  # on each side of zero, so that no bar holds gains and losses


@styled
def draw_gains(images: pd.DataFrame, mean: Interval) -> Drawing | None:
    """Draw the histogram of IoU after minus before.

    Args:
        images: iou_before and iou_face_mask, one row per image.
        mean: of the difference, with its interval.

    Returns:
        None without truth.
    """
    gains = (images["iou_face_mask"] - images["iou_before"]).dropna().to_numpy()
    if not gains.size:
        return None
    axes = style.new_axes("Gain per image", "IoU after − before", "images")
    reach = max(0.05, float(np.abs(gains).max()))
    side = np.linspace(0, reach, _BINS + 1)
    counts, edges = np.histogram(gains, bins=np.concatenate([-side[:0:-1], side]))
    centers = (edges[:-1] + edges[1:]) / 2
    colors = [style.FACE if center >= 0 else style.OCCLUSION for center in centers]
    axes.bar(centers, counts, width=0.92 * np.diff(edges), color=colors)
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.axvline(mean.mean, color=style.INK, linewidth=1.2, linestyle="--")
    axes.axvspan(mean.low, mean.high, color=style.QUIET, alpha=0.18, linewidth=0)
    axes.grid(visible=False, axis="x")
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    note = f"n = {gains.size} images; dashed: mean {mean.mean:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
    style.add_footnote(axes.figure, note.replace("-", "−"))
    return Drawing(
        name="gains",
        title="Gain of overfitting per image",
        explanation=f"{better} images gain, {worse} lose. The grey band is the 95 % interval of the mean. "
        "Transductive: each head has seen its image, never its truth.",
        alt=f"Histogram of the gain in IoU of {gains.size} images, mean {mean.mean:+.3f}",
        figure=axes.figure,
    )


@styled
def draw_before_after(images: pd.DataFrame) -> Drawing | None:
    """Draw IoU after against before, one point per image."""
    pairs = images[["iou_before", "iou_face_mask"]].dropna()
    if pairs.empty:
        return None
    axes = style.new_axes("Before and after", "IoU before", "IoU after", height=4.4)
    axes.plot([0, 1], [0, 1], color=style.QUIET, linewidth=1, linestyle="--")
    axes.plot(
        pairs["iou_before"], pairs["iou_face_mask"], "o", color=style.FACE, alpha=0.45, markersize=4, markeredgewidth=0
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    style.add_footnote(axes.figure, f"n = {len(pairs)} images; dashed: no change")
    return Drawing(
        name="before-after",
        title="IoU before and after overfitting",
        explanation="Each point is an image; above the dashed line it gained.",
        alt=f"Scatter of IoU after against before for {len(pairs)} images",
        figure=axes.figure,
    )
