"""What an import writes of one picture: masks and maps as PNG files, and the row of the manifest that names them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from s3pot.data.safe_names import place_below
from s3pot.data.sources import Imported
from s3pot.images import write_png


def write_imported(imported: Imported, image_id: str, out: Path, *, clean: bool = False) -> dict[str, Any]:
    """Write the masks of one picture below a folder.

    Args:
        imported: what was read.
        image_id: under which it goes into the manifest.
        out: folder with truth/, region/, parsing/, labels/ and, for embedded pictures, images/.
        clean: the picture is known to be free of occluders: its truth is empty.

    Returns:
        The row of the manifest: id, path, width, height, kind, face_id and the paths of what was written.

    Raises:
        OutsideError: if the id leads out of the folder.
    """
    annotation, labels = imported.annotation, imported.labels
    arrays: dict[str, np.ndarray] = {}
    if annotation is not None:
        arrays["truth"] = _as_png(annotation.occlusion)
        if annotation.region is not None:
            arrays["region"] = _as_png(annotation.region)
    if labels is not None:
        arrays |= {"region": _as_png(labels.region), "parsing": labels.parsing, "labels": labels.labels}
    if clean:
        arrays["truth"] = np.zeros(imported.size, dtype=np.uint8)
    for folder, array in arrays.items():
        write_png(place_below(out / folder, image_id, ".png"), array)
    drawn = None if "truth" not in arrays else "occlusion" if arrays["truth"].any() else "clean"
    return {
        "id": image_id,
        "path": imported.path or _written_picture(imported.data, image_id, out),
        "width": imported.size[1],
        "height": imported.size[0],
        "kind": drawn,
        "face_id": image_id,
        **{f"{folder}_path": place_below(out / folder, image_id, ".png") for folder in arrays},
    }


def _as_png(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def _written_picture(data: bytes | None, image_id: str, out: Path) -> Path:
    assert data is not None
    with Image.open(io.BytesIO(data)) as opened:
        suffix = f".{(opened.format or 'png').lower()}".replace(".jpeg", ".jpg")
    path = place_below(out / "images", image_id, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
