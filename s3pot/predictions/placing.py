"""From the frame of a prediction's file to the original frame of the image [design 2].

Every frame is an affine map from pixels (x, y) of the file to pixels of the image; pixel centres are whole numbers.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from s3pot.alignment import to_original_frame
from s3pot.predictions.prediction import Prediction


def place(
    claim: Float32[np.ndarray, "h w"],
    prediction: Prediction,
    original_size: tuple[int, int],
    *,
    aligned_size: tuple[int, int] | None,
    to_original: Float64[np.ndarray, "2 3"] | None,
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Bring a claim to the image.

    Args:
        claim: of `read_claim`, above 0 where the target is.
        prediction: whose frame it is in.
        original_size: (height, width) of the image.
        aligned_size: (height, width) of the store's face crop; None when no face was found.
        to_original: map of the store's face crop.

    Returns:
        The target, and where the file reaches at all; both (height, width) bool.

    Raises:
        ValueError: if the file's size cannot be that of its frame, or there is no face crop to lie over.
    """
    height, width = claim.shape
    match prediction.frame:
        case "original":
            if claim.shape != original_size:
                raise ValueError(
                    f"{prediction.path}: is {height} x {width}, the image {original_size[0]} x {original_size[1]} "
                    "(height x width): say frame=stretched if the whole image was resized to that, or the frame it has"
                )
            return claim > 0, np.ones(original_size, dtype=bool)
        case "stretched":
            matrix = _box((0.0, 0.0, float(original_size[1]), float(original_size[0])), width, height)
        case "crop" if len(prediction.crop) == 6:
            matrix = np.array(prediction.crop).reshape(2, 3)
        case "crop":
            matrix = _box(prediction.crop, width, height)
        case "aligned" | "model":
            if aligned_size is None or to_original is None:
                raise ValueError(f"{prediction.path}: no face was found in this image, so there is no face crop")
            claim, in_crop = _over_crop(claim, prediction, aligned_size)
            matrix = _after(to_original, in_crop)
    return _warped(claim, matrix, original_size)


def _over_crop(
    claim: np.ndarray, prediction: Prediction, aligned_size: tuple[int, int]
) -> tuple[np.ndarray, Float64[np.ndarray, "2 3"]]:
    """Return the part of the file that lies over the face crop, and the map to the crop's pixels."""
    crop_height, crop_width = aligned_size
    height, width = claim.shape
    if prediction.frame == "model":
        if height != width:
            raise ValueError(f"{prediction.path}: frame=model is a padded square, got {height} x {width}")
        scale = max(aligned_size) / height
        claim = claim[: round(crop_height / scale), : round(crop_width / scale)]
        return claim, np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    if abs(height * crop_width - width * crop_height) > max(height, width, crop_height, crop_width):
        raise ValueError(
            f"{prediction.path}: is {height} x {width}, the face crop {crop_height} x {crop_width}: not of one shape"
        )
    return claim, _box((0.0, 0.0, float(crop_width), float(crop_height)), width, height)


def _box(box: tuple[float, ...], width: int, height: int) -> Float64[np.ndarray, "2 3"]:
    """Map the pixels of a file onto a rectangle (left, top, width, height), edge onto edge."""
    left, top, box_width, box_height = box
    across, down = box_width / width, box_height / height
    return np.array([[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2]])


def _after(second: np.ndarray, first: np.ndarray) -> Float64[np.ndarray, "2 3"]:
    together = second[:, :2] @ first
    together[:, 2] += second[:, 2]
    return together


def _warped(
    claim: np.ndarray, matrix: np.ndarray, original_size: tuple[int, int]
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    placed = to_original_frame(claim, matrix, original_size, outside=-np.inf)
    return placed > 0, placed != -np.inf
