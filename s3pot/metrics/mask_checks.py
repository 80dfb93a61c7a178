"""Check the boolean images that every metric takes.

Predictions and truths come from outside (a folder of masks, another method), so shape and dtype are checked in every
run, not only in tests.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

# One annotation, two readers: mypy sees the dtype, the runtime checker of the test run sees only "an array", because
# the checks below must be the ones that speak (they name the argument and raise ValueError).
if TYPE_CHECKING:
    BoolImage: TypeAlias = npt.NDArray[np.bool_]
    TokenIds: TypeAlias = npt.NDArray[np.int64]
else:
    BoolImage = np.ndarray
    TokenIds = np.ndarray


def require_bool_images(**images: BoolImage) -> None:
    """Require bool arrays of one common, non-empty shape (H, W).

    Args:
        **images: the arrays by the name they carry in the caller; the first one sets the shape.

    Raises:
        ValueError: an array is not bool, not two-dimensional, empty, or of another shape than the first.
    """
    first_name, first_shape = "", ()
    for name, image in images.items():
        if image.dtype != np.bool_ or image.ndim != 2 or image.size == 0:
            raise ValueError(f"{name} must be a non-empty bool array of shape (H, W); got {image.dtype} {image.shape}")
        if not first_name:
            first_name, first_shape = name, image.shape
        elif image.shape != first_shape:
            raise ValueError(f"{name} must have the shape {first_shape} of {first_name}; got {image.shape}")
