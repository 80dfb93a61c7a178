"""FFHQ as it is handed out, and as people lay it out: every picture is known by its number of five digits.

images1024x1024/00000/00000.png, thumbnails128x128/00000/00000.png, in-the-wild-images/00000/00000.png, or flat. The
sub-folders of 1,000 mean nothing; numbers below 60,000 are the authors' training pictures.
"""

import re
from pathlib import Path

from s3pot.data.pictures import by_stem
from s3pot.images import ImageError

_NUMBER = re.compile(r"\d{5}")


def list_ffhq(root: Path) -> tuple[dict[str, Path], list[str]]:
    """List the pictures below a folder by their number.

    Returns:
        The pictures, and a sentence for every picture that has no such name.

    Raises:
        ImageError: if there are none, or if a number lies in several folders: then `root` holds several sizes.
    """
    found = by_stem(root)
    numbered = {name: paths for name, paths in found.items() if _NUMBER.fullmatch(name)}
    twice = next((paths for paths in numbered.values() if len(paths) > 1), None)
    if twice is not None:
        raise ImageError(
            f"{root}: holds a picture of one number twice, {twice[0]} and {twice[1]}: name one folder, such as "
            "images=ffhq/images1024x1024"
        )
    if not numbered:
        raise ImageError(f"{root}: no picture is called like those of FFHQ, 00000.png")
    broken = [
        f"{path}: is not called like a picture of FFHQ" for name in found.keys() - numbered for path in found[name]
    ]
    return {name: paths[0] for name, paths in numbered.items()}, sorted(broken)
