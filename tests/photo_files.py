"""Real image files of every kind that turns up in folders of photographs, broken ones among them."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.stand_ins import textured_face


def write_every_kind(folder: Path) -> dict[str, str]:
    """Write a real file of every kind that turns up in folders of photographs; returns what is to come of each."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(textured_face(0)[0])
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned: the stored picture lies on its side
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    picture.save(folder / "plain.png")
    Image.fromarray(grey).save(folder / "grey16.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.quantize(64).save(folder / "palette.png")
    picture.resize((256, 192)).transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.jpg", exif=turned)
    Image.new("1", (14_000, 14_000)).save(folder / "bomb.png")  # 24 kB that claim 196 million pixels
    picture.save(folder / "whole.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:5000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "folder.png").mkdir()
    Image.new("RGB", (300, 200), (90, 90, 90)).save(folder / "wall.png")
    kinds = dict.fromkeys(["plain.png", "grey16.png", "cmyk.jpg", "palette.png", "rotated.jpg", "whole.jpg"], "ok")
    kinds |= dict.fromkeys(["bomb.png", "truncated.jpg", "empty.png", "text.jpg", "folder.png", "gone.png"], "failed")
    return kinds | {"wall.png": "ok"}
