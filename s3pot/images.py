"""Image files and bytes to and from arrays.

Everything downstream sees (H, W, 3) uint8 RGB, upright. What cannot be turned into that raises `ImageError`, which
names the file, so that a job can make a row with a status of it. Reading goes through Pillow, because OpenCV expands
the palette of a label map and reports a broken file as None.
"""

import io
import os
import struct
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# What Pillow raises on bytes that are no image, are cut short, or claim an absurd size.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageError(ValueError):
    """An image cannot be read; the message names it."""


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image file as upright RGB; see `decode_image`.

    Raises:
        ImageError: If the file is missing, empty, cut short or no image, or exceeds Pillow's decompression-bomb limit.
    """
    return decode_image(_read_bytes(Path(path)), str(path))


def read_labels(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a label map, a grey or palette PNG whose pixel values are class ids; (H, W) uint8.

    Raises:
        ImageError: if it cannot be read or holds colours.
    """
    with _open(_read_bytes(path), str(path)) as opened:
        # The indices of a palette are the labels; a decoder that expands the palette gives colours.
        if opened.mode not in {"L", "P"}:
            raise ImageError(f"{path}: a label map is a grey or palette PNG, got mode {opened.mode}")
        return np.asarray(opened, dtype=np.uint8)


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decode image bytes of any mode as upright RGB.

    The EXIF orientation is applied, alpha is dropped, 16-bit grey is scaled to 8 bits; the first of several frames
    is taken.

    Args:
        data: Content of an image file.
        name: What to call it in an error.

    Raises:
        ImageError: As `read_image`.
    """
    image = _open(data, name)
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except _DECODING_ERRORS as error:
        raise ImageError(f"{name}: cannot be decoded: {error}") from error


def decode_png(data: bytes, name: str = "PNG bytes") -> UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    """Decode PNG bytes exactly: grey as (H, W), a palette as its indices (H, W), RGB as (H, W, 3).

    This is the inverse of `encode_png`, and the way to read label maps: `decode_png(path.read_bytes(), str(path))`.

    Raises:
        ImageError: If the bytes are no PNG or have another mode, which would lose something.
    """
    image = _open(data, name)
    if image.format != "PNG" or image.mode not in ("L", "P", "RGB"):
        raise ImageError(f"{name}: expected a PNG of mode L, P or RGB, got {image.format} of mode {image.mode}")
    try:
        return np.array(image)
    except _DECODING_ERRORS as error:
        raise ImageError(f"{name}: cannot be decoded: {error}") from error


def encode_png(array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode a grey image, a label map or an RGB image without loss."""
    return _encode(array, format="PNG")


def encode_jpeg(
    array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"], quality: int = 92, *, chroma_subsampling: bool = True
) -> bytes:
    """Encode a grey or RGB image as JPEG.

    Args:
        array: The image.
        quality: 1 (worst) to 100.
        chroma_subsampling: Store colour at half the resolution (4:2:0), as cameras do.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be in 1..100, got {quality}")
    return _encode(array, format="JPEG", quality=quality, subsampling=2 if chroma_subsampling else 0)


def write_png(path: str | Path, array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> None:
    """Write a PNG file; a reader sees the old file or the whole new one, never a part. Makes the folder."""
    path = Path(path)
    data = encode_png(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{uuid.uuid4().hex}.tmp"
    )  # same folder: os.replace cannot cross file systems
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, sorted by their path in it; hidden files and folders are left out.

    Raises:
        ImageError: If the folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found = _images_below(folder)
    if chosen := found if recursive else [path for path in found if path.parent == folder]:
        return chosen
    hint = f"; {len(found)} in its sub-folders, which only a recursive listing takes" if found else ""
    raise ImageError(f"{folder}: no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))}){hint}")


def _images_below(folder: Path) -> list[Path]:
    relative = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    # Hidden: macOS leaves "._photo.jpg" beside photo.jpg, which is no image.
    shown = [path for path in relative if not any(part.startswith(".") for part in path.parts)]
    return [folder / path for path in sorted(shown, key=Path.as_posix) if (folder / path).is_file()]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name}: is empty")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is no image that Pillow knows") from error
    except _DECODING_ERRORS as error:
        raise ImageError(f"{name}: cannot be decoded: {error}") from error
    return image


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; convert the file to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"expected 16-bit grey, got values from {grey.min()} to {grey.max()}")
        # Pillow's own conversion clips 16 bits at 255 instead of scaling.
        grey = (grey * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about transparency given in bytes
    return np.array(image.convert("RGB"))


def _encode(array: np.ndarray, **options: Any) -> bytes:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise TypeError(f"expected a non-empty uint8 array (H, W) or (H, W, 3), got {array.dtype} {array.shape}")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()
