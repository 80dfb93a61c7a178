"""Pictures that are almost the same, by perceptual hash: the signs of low frequencies of the cosine transform.

256 bits (16 x 16 frequencies of a 64 x 64 picture), the "pHash" of ImageHash with hash_size=16, bit for bit. 64 bits,
the usual size, do not do for aligned faces, which all look alike at 8 x 8: of 1,898 faces, different people came as
close as 6 bits, as close as copies. With 256 bits, copies (resized to 64 px, JPEG quality 10, 30 % brighter, 1 % cut
off each side) stay within 30 bits and different pictures differ in at least 58. A copy that is mirrored or cut by more
is not found.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image
from scipy.fft import dctn

from s3pot.images import ImageError

BITS = 256
DISTANCE = 32
_SIDE, _KEPT = 64, 16
_BLOCK = 1024


def perceptual_hash(path: Path) -> Bool[np.ndarray, " 256"]:
    """Hash a picture.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            opened.draft("L", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded no larger than needed
            grey = opened.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read: {error}") from error
    low = dctn(np.asarray(grey, dtype=np.float64))[:_KEPT, :_KEPT]
    hashed: Bool[np.ndarray, " 256"] = (low > np.median(low)).ravel()
    return hashed


def near_pairs(
    hashes: Bool[np.ndarray, "n 256"], most: int = DISTANCE
) -> tuple[Int[np.ndarray, "m 2"], Int[np.ndarray, " m"]]:
    """Find all pairs of pictures that differ in few bits.

    All pairs are compared, as products of blocks of matrices: 100,000 pictures take about half a minute on one core.

    Args:
        hashes: (N, 256) bool.
        most: largest distance in bits, 0..255.

    Returns:
        (M, 2) rows of `hashes`, the smaller first, in order; and (M,) distances.
    """
    if not 0 <= most < BITS:
        raise ValueError(f"the largest distance must be in 0..{BITS - 1}, got {most}")
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    pairs, distances = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for first in range(0, len(signs), _BLOCK):
        agreement = signs[first : first + _BLOCK] @ signs[first:].T
        rows, cols = np.nonzero(agreement >= BITS - 2 * most)
        later = cols > rows
        rows, cols = rows[later], cols[later]
        pairs.append(np.stack([rows, cols], axis=1) + first)
        distances.append(((BITS - agreement[rows, cols]) / 2).astype(np.int64))
    return np.concatenate(pairs), np.concatenate(distances)
