"""What the embedded models are trained on: faces, cut-outs and natural photographs of fold `prefix`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from s3pot.composite import Cutout, list_cutouts, load_cutout
from s3pot.composite.harvest import natural_segments, worn_hats
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.sam_training import NaturalBank, load_natural

# First code points of emoji that are drawn hands or arms: they go with the hands.
_HAND_EMOJI = frozenset(
    [
        *(0x261D, 0x1F485, 0x1F4AA, 0x1F590, 0x1F595, 0x1F596, 0x1F64C, 0x1F64F, 0x1F90C, 0x1F90F, 0x1F932, 0x1F933),
        *range(0x270A, 0x270E),
        *range(0x1F446, 0x1F451),
        *range(0x1F918, 0x1F920),
        *range(0x1FAF0, 0x1FAF9),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Everything in memory.

    Attributes:
        faces: labelled clean faces of fold `prefix`.
        cutouts: occluders of fold `prefix`, hats worn there and segments of the photographs included.
        natural: photographs with human segmentations.
        data: folder it was read from.
        excluded: ids of faces that are no clean bases.
    """

    faces: FaceBank
    cutouts: list[Cutout]
    natural: NaturalBank
    data: Path
    excluded: frozenset[str]


def load_material(
    data: Path, excluded: Collection[str], *, leave_out: Collection[str] = (), limit: int | None = None
) -> Material:
    """Read the training split.

    Args:
        data: folder with celebamask/train, occluders/train and natural/train.
        excluded: ids of faces that are no clean bases.
        leave_out: kinds of cut-outs to do without (leave-one-kind-out, design 6 e); emoji of hands go with the hands.
            Segments of natural photographs stay, and now and then one is a person.
        limit: at most about this many faces and cut-outs of each origin, to try things out.

    Raises:
        FileNotFoundError: if faces, cut-outs or photographs are missing.
        ValueError: if a kind that is left out is not there.
    """
    root = data / "celebamask" / "train"
    listed = list_cutouts(data / "occluders" / "train", "prefix")
    cutouts = [load_cutout(kind, path) for kind, path in listed[:: max(1, len(listed) // limit) if limit else 1]]
    natural = load_natural(data / "natural" / "train")
    cutouts += worn_hats(root, "prefix", excluded)[:limit]
    cutouts += natural_segments(natural.images, natural.segments)[:limit]
    unknown = set(leave_out) - {cutout.kind for cutout in cutouts}
    if unknown:
        kinds = ", ".join(sorted({cutout.kind for cutout in cutouts}))
        raise ValueError(f"cannot leave out {', '.join(sorted(unknown))}: the kinds there are {kinds}")
    return Material(
        faces=load_faces(root, list_faces(root, "prefix", excluded)[:limit]),
        cutouts=[
            cutout
            for cutout in cutouts
            if cutout.kind not in leave_out and not ("hands" in leave_out and is_hand_emoji(cutout))
        ],
        natural=natural,
        data=data,
        excluded=frozenset(excluded),
    )


def is_hand_emoji(cutout: Cutout) -> bool:
    """Tell whether a cut-out is an emoji of a hand or an arm, by the code point that names its file."""
    code = cutout.id.split("/")[1].split("-")[0].lower()
    return cutout.kind == "emoji" and set(code) <= set("0123456789abcdef") and int(code, 16) in _HAND_EMOJI


def read_excluded(path: Path) -> frozenset[str]:
    """Read face ids, one a line, with `#` comments."""
    return frozenset(line.split("#")[0].strip() for line in path.read_text().splitlines()) - {""}
