"""Fig. 9 of the paper: what feature enhancement (FE) does to similarity and prompts [S3POT 4.2].

    (a) similarity maps and prompts before and after, on examples
    (b) density of the similarity of face tokens and of occluded tokens
    (c) density of the precision of occlusion prompts over images

(b) and (c) sort and judge by the truth, to show what happens; nothing of it enters tokens or prompts.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from analysis import stage_pictures
from analysis.case_panels import StoredCase
from analysis.feature_contrast import Contrast, ImageContrast
from analysis.figures import style
from analysis.figures.style import Drawing, styled
from s3pot.seeding import generator

_MOST_TOKENS = 20_000
_CELL = 1.42  # inches of a picture in (a)


@styled
def draw_similarity_densities(images: Sequence[ImageContrast]) -> Drawing:
    """Draw Fig. 9b: density of the similarity of face and occluded tokens, before and after FE."""
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    both = figure.subplots(2, 1, sharex=True)
    both[0].set_title("Similarity of image and reference")
    pooled = {
        name: (
            np.concatenate([_contrast(image, name).similarity[image.visible] for image in images]),
            np.concatenate([_contrast(image, name).similarity[image.occluded] for image in images]),
        )
        for name in ("before", "after")
    }
    low = min(-0.2, *(float(np.quantile(values, 0.005)) for pair in pooled.values() for values in pair if values.size))
    for axes, (name, pair) in zip(both, pooled.items(), strict=True):
        labels = ("face tokens", "occluded tokens")
        for values, label, color, dash in zip(pair, labels, (style.FACE, style.OCCLUSION), style.DASHES, strict=False):
            _draw_density(axes, values, label, color, dash, (max(-1.0, low), 1.0), peak_is_one=True)
        axes.set_ylabel(f"{name} FE\ndensity, peak = 1")
        axes.set_ylim(bottom=0)
    _add_legend(both[0])
    both[1].set_xlabel("cosine of image and reference token at the same place")
    style.add_footnote(figure, f"n = {len(images)} images, tokens pooled; the truth sorts tokens, for show only")
    means = {name: (float(pair[0].mean()), float(pair[1].mean())) for name, pair in pooled.items()}
    said = "; ".join(f"{name} FE {face:.2f} and {occluded:.2f}" for name, (face, occluded) in means.items())
    return Drawing(
        name="fig9b",
        title="Fig. 9b: similarity of face and occluded tokens",
        explanation=f"Mean similarity of face and of occluded tokens: {said}. The further apart the two curves, the "
        "easier is the choice of prompts. The truth sorts the tokens for this figure and touches nothing else.",
        alt=f"Densities of similarity of face and occluded tokens. Means of face and occluded: {said}",
        figure=figure,
    )


@styled
def draw_precision_density(images: Sequence[ImageContrast]) -> Drawing:
    """Draw Fig. 9c: density over images of the precision of greedy occlusion prompts, before and after FE."""
    pairs = np.array([(image.before.precision, image.after.precision) for image in images if image.occluded.any()])
    pairs = pairs.reshape(-1, 2)
    axes = style.new_axes("Precision of occlusion prompts", "share of prompts on the occluder", "density over images")
    means = []
    for column, (name, color) in enumerate((("before FE", style.OCCLUSION), ("after FE", style.FACE))):
        values = pairs[:, column][np.isfinite(pairs[:, column])]
        means.append(float(values.mean()) if values.size else float("nan"))
        _draw_density(axes, values, f"{name}, mean {means[-1]:.2f}", color, style.DASHES[1 - column], (0.0, 1.0))
    axes.set_ylim(bottom=0)
    _add_legend(axes)
    style.add_footnote(axes.figure, f"n = {len(pairs)} occluded images; judged by the truth, for show only")
    said = f"mean precision {means[0]:.3f} before and {means[1]:.3f} after FE"
    return Drawing(
        name="fig9c",
        title="Fig. 9c: precision of occlusion prompts",
        explanation=f"Greedy prompts on the tokens before and after FE: {said}. Images without any prompt have no "
        "precision and are left out of that curve.",
        alt=f"Densities of prompt precision over {len(pairs)} images, {said}",
        figure=axes.figure,
    )


@styled
def draw_examples(images: Sequence[ImageContrast], cases: Mapping[str, StoredCase]) -> Drawing:
    """Draw Fig. 9a: picture, reference, similarity and prompts before and after FE; shows faces.

    Args:
        images: a row each.
        cases: what the store and the disk hold of them.
    """
    heads = ("picture", "reference", "similarity", "prompts", "similarity", "prompts")
    figure = Figure(figsize=(len(heads) * _CELL, len(images) * _CELL + 1.0), layout="constrained")
    grid = figure.subplots(len(images), len(heads), squeeze=False)
    values = np.concatenate([_contrast(image, name).similarity for image in images for name in ("before", "after")])
    limits = (float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99)))
    for row, image in zip(grid, images, strict=True):
        for axes, picture in zip(row, _pictures(image, cases[image.id], limits), strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            if picture is not None:
                axes.imshow(picture, interpolation="antialiased")
        row[0].set_ylabel(image.kind or image.id)
    groups = ("", "", "before FE", "before FE", "after FE", "after FE")
    for axes, head, group in zip(grid[0], heads, groups, strict=True):
        axes.set_title(f"{head}\n{group}".strip(), fontsize=9, fontweight="normal", loc="center", pad=5)
    colors = stage_pictures.similarity_colors(np.linspace(*limits, 64)[None], limits)
    scale = ScalarMappable(Normalize(*limits), ListedColormap(colors[0] / 255.0))
    bar = figure.colorbar(scale, ax=grid[-1], location="bottom", shrink=0.4, aspect=40, pad=0.03)
    bar.set_label("cosine of image and reference token", fontsize=8.5)
    bar.outline.set_visible(False)
    return Drawing(
        name="fig9a",
        title="Fig. 9a: similarity and prompts before and after feature enhancement",
        explanation="One colour scale for all maps; dark: differs from the reference. Orange discs are occlusion "
        "prompts, blue squares face prompts, both by greedy matching. One image of each kind, drawn at random.",
        alt=f"{len(images)} faces with similarity maps and prompts before and after feature enhancement",
        figure=figure,
        faces=True,
    )


def choose_examples(images: Sequence[ImageContrast], number: int = 6) -> list[ImageContrast]:
    """Draw one occluded image of each kind at random, at most `number`; the draw is always the same."""
    kinds = sorted({image.kind for image in images if image.occluded.any()})[:number]
    chosen = []
    for kind in kinds:
        of_kind = [image for image in images if image.kind == kind and image.occluded.any()]
        chosen.append(of_kind[int(generator(0, "report/examples", kind).integers(len(of_kind)))])
    return chosen


def _pictures(
    image: ImageContrast, case: StoredCase, limits: tuple[float, float]
) -> list[npt.NDArray[np.uint8] | None]:
    """Return the six pictures of a row; None where there is none."""
    if case.frame is None or case.parsing is None:
        return [None] * 6
    base = stage_pictures.blank_picture(case.frame) if case.photograph is None else case.photograph
    reference = None if case.reference is None else stage_pictures.resize_picture(case.reference, case.frame)
    drawn: list[npt.NDArray[np.uint8] | None] = [case.photograph, reference]
    for name in ("before", "after"):
        contrast = _contrast(image, name)
        prompts = (contrast.occlusion_prompts.tolist(), contrast.face_prompts.tolist())
        drawn.append(stage_pictures.draw_similarity(contrast.similarity, case.parsing, case.frame, limits))
        drawn.append(stage_pictures.draw_prompts(base, *prompts, contrast.similarity.size))
    # Half the side is what is shown at this size; whole panels would make the SVG heavy.
    return [
        None if picture is None else cv2.resize(picture, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
        for picture in drawn
    ]


def _draw_density(
    axes: Axes,
    values: npt.NDArray[np.floating],
    label: str,
    color: str,
    dash: object,
    ends: tuple[float, float],
    *,
    peak_is_one: bool = False,
) -> None:
    """Draw a kernel density, mirrored at the ends so that none of it lies beyond them."""
    if values.size > _MOST_TOKENS:
        values = generator(0, "report/density", label).choice(values, _MOST_TOKENS, replace=False)
    if np.unique(values).size < 3:
        return  # nothing to estimate a density from; the legend's mean, where there is one, says it all
    low, high = ends
    density = gaussian_kde(values)
    places = np.linspace(low, high, 400)
    height = density(places) + density(2 * high - places) + density(2 * low - places)
    if peak_is_one:
        height = height / height.max()
    axes.fill_between(places, height, color=color, alpha=0.15, linewidth=0)
    axes.plot(places, height, color=color, linestyle=dash, label=label)


def _add_legend(axes: Axes) -> None:
    """Name the curves, where there are any."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left")


def _contrast(image: ImageContrast, name: str) -> Contrast:
    return image.before if name == "before" else image.after
