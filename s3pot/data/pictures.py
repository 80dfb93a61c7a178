"""Picture files of a dataset: which there are, under which ids, and how large each is upright."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from s3pot.images import ImageError, list_images, read_image

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF orientations that swap width and height


def list_pictures(root: Path) -> dict[str, list[Path]]:
    """List the pictures below a folder by their id, the path below it without its suffix.

    Returns:
        Usually one picture per id; several where they differ in the suffix only.

    Raises:
        ImageError: if there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in list_images(root, recursive=True):
        found.setdefault(path.relative_to(root).with_suffix("").as_posix(), []).append(path)
    return found


def by_stem(root: Path) -> dict[str, list[Path]]:
    """List the pictures below a folder by their file name without its suffix, whatever folders they lie in.

    Raises:
        ImageError: if there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in list_images(root, recursive=True):
        found.setdefault(path.stem, []).append(path)
    return found


def the_picture(name: str, found: list[Path]) -> Path:
    """Return the only picture of a name.

    Raises:
        ImageError: if there is none, or more than one.
    """
    if len(found) != 1:
        listed = f"the pictures {', '.join(str(path) for path in found)}" if found else "no picture"
        raise ImageError(f"{name}: {listed} of this name; one is needed")
    return found[0]


def upright_size(path: Path, *, decode: bool) -> tuple[int, int]:
    """Return (height, width) of a picture after EXIF rotation.

    Args:
        path: of the picture.
        decode: read all of it, so that one that is cut short is found; otherwise its header only.

    Raises:
        ImageError: if it cannot be read.
    """
    if decode:
        height, width, _ = read_image(path).shape
        return height, width
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problem = "is no image that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageError(f"{path}: {problem}") from error
    return (width, height) if turned else (height, width)
