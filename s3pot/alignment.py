"""From a photograph to aligned face crops and back [design 2: frames `original` and `aligned`].

All models expect faces framed as in CelebA-HQ and FFHQ. `detect` finds faces with the embedded locator and crops a
square around each, turned upright; `landmarks` cuts the same squares by the rule of those data sets, from eyes and
mouth that a file gives; `none` takes the picture as an aligned face and only resizes it by its long side.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from s3pot.landmark_file import LandmarkFile
from s3pot.locator import FaceLocator, LocatedFace, locate_faces

AlignmentMode = Literal["none", "detect", "landmarks"]
FaceChoice = Literal["main", "all"]

# What the faces after the first are called; an image must not end like that where all faces are wanted.
_FURTHER_FACE = re.compile(r"#\d+$")


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedFace:
    """A face crop and the way back.

    Attributes:
        image: (h, w, 3) uint8 RGB whose long side is the working size.
        to_original: (2, 3) affine map from pixels (x, y) of the crop to pixels of the original.
        score: how sure it is that this is a face, in [0, 1]; 1 where nobody was asked.
    """

    image: UInt8[np.ndarray, "h w 3"]
    to_original: Float64[np.ndarray, "2 3"]
    score: float = 1.0


class FaceAligner:
    """Crops the faces of a photograph, or takes pictures as they are; owns what finds the faces.

    Args:
        mode: "detect", "landmarks" or "none".
        locator: finds faces, in eval mode; needed for "detect" alone.
        landmarks: says where faces are; needed for "landmarks" alone.

    Raises:
        ValueError: for "detect" without a locator, or "landmarks" without landmarks.
    """

    def __init__(
        self, mode: AlignmentMode, locator: FaceLocator | None = None, landmarks: LandmarkFile | None = None
    ) -> None:
        if mode == "detect" and locator is None:
            raise ValueError('alignment "detect" needs a face locator: s3pot.chain.load_aligner loads the embedded one')
        if mode == "landmarks" and landmarks is None:
            raise ValueError('alignment "landmarks" needs a landmark file: s3pot.chain.load_aligner reads it')
        self.mode, self.locator, self.landmarks = mode, locator, landmarks

    def align(self, image: UInt8[np.ndarray, "h w 3"], size: int, image_id: str | None = None) -> AlignedFace | None:
        """Crop the most prominent face: the first of `align_all`, or None when no face was found."""
        if self.mode == "none":
            return resize_picture(image, size)
        faces = self._find(image, image_id)
        return crop_face(image, faces[0], size) if faces else None

    def align_all(self, image: UInt8[np.ndarray, "h w 3"], size: int, image_id: str | None = None) -> list[AlignedFace]:
        """Crop every face, or resize the picture.

        Args:
            image: (H, W, 3) uint8 RGB photograph.
            size: long side of a crop in pixels.
            image_id: what the landmark file calls the image; needed for "landmarks" alone.

        Returns:
            The aligned faces, the most prominent first.

        Raises:
            ValueError: for "landmarks" without an image id.
            LandmarkError: if the landmarks of this image lie outside it.
        """
        if self.mode == "none":
            return [resize_picture(image, size)]
        return [crop_face(image, face, size) for face in self._find(image, image_id)]

    def _find(self, image: np.ndarray, image_id: str | None) -> list[LocatedFace]:
        if self.landmarks is not None:
            if image_id is None:
                raise ValueError(f"{self.landmarks.path} gives faces by image id: pass the id of this image")
            faces = self.landmarks.faces(image_id, (image.shape[0], image.shape[1]))
        else:
            faces = [] if self.locator is None else locate_faces(self.locator, image)
        # Large and sure: a stranger in the background is small, and a doubtful answer is not preferred for its size.
        return sorted(faces, key=lambda face: -face.score * face.side)


def id_of_face(image_id: str, number: int) -> str:
    """Name a face of a photograph: the most prominent, number 1, has the image's own id, the next is `<id>#2`."""
    return image_id if number == 1 else f"{image_id}#{number}"


def image_of_face(face_id: str) -> str:
    """Return the image id of a face's id; an image id that would not come back so cannot be told from a face's."""
    return _FURTHER_FACE.sub("", face_id)


def resize_picture(image: UInt8[np.ndarray, "h w 3"], size: int) -> AlignedFace:
    """Take a picture as an aligned face; only its long side becomes `size`."""
    scale = size / max(image.shape[:2])
    width, height = (max(1, round(extent * scale)) for extent in (image.shape[1], image.shape[0]))
    return AlignedFace(image=_shrink(image, (width, height)), to_original=_scaling(image, (width, height)))


def crop_face(image: UInt8[np.ndarray, "h w 3"], face: LocatedFace, size: int) -> AlignedFace:
    """Cut a located face out upright; where the crop leaves the photograph, its mirror image goes on.

    Args:
        image: (H, W, 3) uint8 RGB photograph.
        face: where the crop lies in it.
        size: side of the crop in pixels.
    """
    scale = face.side / size
    cosine, sine = scale * math.cos(face.roll), scale * math.sin(face.roll)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    # The middle of the crop, between its pixels when their number is even, lies on the centre of the face.
    middle = np.full(2, (size - 1) / 2)
    to_original = np.column_stack([turn, np.array([face.x, face.y]) - turn @ middle])
    blurred = cv2.GaussianBlur(image, (0, 0), 0.5 * (scale - 1.0)) if scale > 1.2 else image
    crop = cv2.warpAffine(
        blurred,
        to_original,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return AlignedFace(image=crop, to_original=to_original, score=face.score)


def to_original_frame(
    aligned: Float[np.ndarray, "h w"],
    to_original: Float64[np.ndarray, "2 3"],
    original_size: tuple[int, int],
    *,
    outside: float = 0.0,
) -> Float32[np.ndarray, "height width"]:
    """Bring a map (probabilities, a face mask as 0 and 1) from the aligned to the original frame.

    Args:
        aligned: (h, w) values in the aligned frame.
        to_original: of `AlignedFace`.
        original_size: (height, width) of the photograph.
        outside: value where the crop does not reach.
    """
    values = np.ascontiguousarray(aligned, dtype=np.float32)
    if values.shape == original_size and np.allclose(to_original, [[1, 0, 0], [0, 1, 0]]):
        return values
    found = np.zeros(original_size, dtype=np.float32)
    if outside:
        found += np.float32(outside)
    rows, cols = crop_window(to_original, (values.shape[0], values.shape[1]), original_size)
    size_xy = (cols.stop - cols.start, rows.stop - rows.start)
    if min(size_xy) > 0:
        # Only where the crop lies: a face is a small part of many a photograph.
        to_window = to_original - np.array([[0.0, 0.0, cols.start], [0.0, 0.0, rows.start]])
        # Half a crop pixel lies between the outermost pixel centres and the edge of the crop: the map goes on there, so
        # that it does not fade out along the edges of the picture.
        warped = cv2.warpAffine(values, to_window, size_xy, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = np.ones(values.shape, dtype=np.uint8)
        reached = cv2.warpAffine(inside, to_window, size_xy, flags=cv2.INTER_NEAREST)
        np.copyto(found[rows, cols], warped, where=reached > 0)
    return found


def crop_corners(to_original: Float64[np.ndarray, "2 3"], aligned_size: tuple[int, int]) -> Float64[np.ndarray, "4 2"]:
    """Return the corners (x, y) of a crop in the photograph, clockwise from the crop's upper left.

    Args:
        to_original: of `AlignedFace`.
        aligned_size: (height, width) of the crop.
    """
    # A corner lies half a pixel outside the middle of the outermost pixel.
    bottom, right = aligned_size[0] - 0.5, aligned_size[1] - 0.5
    corners = np.array([[-0.5, -0.5, 1.0], [right, -0.5, 1.0], [right, bottom, 1.0], [-0.5, bottom, 1.0]])
    return corners @ to_original.T


def crop_window(
    to_original: Float64[np.ndarray, "2 3"], aligned_size: tuple[int, int], original_size: tuple[int, int]
) -> tuple[slice, slice]:
    """Return the rows and columns of a photograph that a crop reaches, and a pixel around them."""
    corners, last = crop_corners(to_original, aligned_size), np.array(original_size[::-1])
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, last).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, last).tolist()
    return slice(top, bottom), slice(left, right)


def _shrink(image: np.ndarray, size_xy: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    if image.shape[1::-1] == size_xy:
        return image
    smaller = size_xy[0] < image.shape[1]
    return cv2.resize(image, size_xy, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _scaling(image: np.ndarray, size_xy: tuple[int, int]) -> Float64[np.ndarray, "2 3"]:
    scale_x, scale_y = image.shape[1] / size_xy[0], image.shape[0] / size_xy[1]
    return np.array([[scale_x, 0.0, scale_x / 2 - 0.5], [0.0, scale_y, scale_y / 2 - 0.5]])
