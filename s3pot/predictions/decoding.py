"""From a prediction's file to the target it claims, on the file's own pixels."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from s3pot.images import ImageError, decode_image, read_labels
from s3pot.predictions.prediction import Prediction


def read_claim(prediction: Prediction) -> Float32[np.ndarray, "h w"]:
    """Read how surely every pixel of the file is the target: above 0 it is.

    Returns:
        (H, W) float32: +0.5 and -0.5 of masks and labels, the logit minus the threshold of logits. Numbers rather than
        bool, so that bringing them to another frame cuts between pixels.

    Raises:
        FileNotFoundError: if there is no file.
        ImageError: if it cannot be read as what it is said to be.
    """
    path = prediction.path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prediction")
    match prediction.encoding:
        case "logits":
            return _from_logits(prediction)
        case "labels":
            claimed = _counted(prediction, read_labels(path))
        case "color":
            claimed = (decode_image(path.read_bytes(), str(path)) == np.array(prediction.color)).all(axis=2)
        case "nonzero":
            claimed = _values(path) > 0
        case "above-127":
            claimed = _values(path) > 127
        case "above":
            claimed = _values(path) > prediction.threshold
    return claimed.astype(np.float32) - np.float32(0.5)


def _values(path: Path) -> np.ndarray:
    """Read the one channel of a mask; a coloured picture is no mask, and grey as RGB is one."""
    picture = decode_image(path.read_bytes(), str(path))
    if (picture[..., :1] != picture).any():
        raise ImageError(f"{path}: holds colours: say encoding=color and which, or encoding=labels for a palette")
    return picture[..., 0]


def _counted(prediction: Prediction, labels: np.ndarray) -> np.ndarray:
    known = len(prediction.class_names())
    if labels.size and int(labels.max()) >= known:
        raise ImageError(
            f"{prediction.path}: holds the label {int(labels.max())}, the order {prediction.label_order[0]} has "
            f"{known} classes: another label order?"
        )
    return np.isin(labels, prediction.counted_ids())


def _from_logits(prediction: Prediction) -> Float32[np.ndarray, "h w"]:
    path = prediction.path
    try:
        logits = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: no .npy file of numbers: {error}") from error
    if not isinstance(logits, np.ndarray) or not np.issubdtype(logits.dtype, np.floating):
        raise ImageError(f"{path}: logits are floating-point numbers in a .npy file, got {getattr(logits, 'dtype', 0)}")
    if logits.ndim == 3 and prediction.is_label_map:
        return _counted(prediction, logits.argmax(axis=0)).astype(np.float32) - np.float32(0.5)
    if logits.ndim != 2 or prediction.is_label_map or not logits.size:
        wanted = "(C, H, W) with a label_order" if prediction.is_label_map else "(H, W)"
        raise ImageError(f"{path}: expected logits {wanted}, got {logits.shape}")
    return (logits - prediction.threshold).astype(np.float32)
