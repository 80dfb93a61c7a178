"""What somebody drew on one picture, whichever program they used: truth and face region from labelled areas.

Every label plays one role: `occlusion` covers the face, `face` is the face region with its occluders, `hole` shows
through an occlusion (skin between fingers), `visible_face` is the face without its occluders. Then

    truth = (occlusion minus hole) inside face        or        truth = face minus (visible_face minus hole)

A hole with a group cuts only the areas of that group, one without a group cuts all: so an island inside a hole can be
told, though the drawing programs know no holes in polygons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

Role = Literal["occlusion", "face", "hole", "visible_face", "ignore"]
Mask = Bool[np.ndarray, "h w"]
ALL = "*"


class AnnotationError(ValueError):
    """An annotation cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class LabelRoles:
    """What the labels of a collection mean.

    Attributes:
        occlusion: labels of what covers a face; any of them counts.
        visible_face: labels of the face without its occluders, instead of occlusion: the truth is face minus these.
        face: labels of the face region, occluders included; [] = none was drawn, and the region stays unknown.
        hole: labels of what shows through an occlusion.
        ignore: labels to leave out; ["*"] = all that are not named. Otherwise an unknown label is an error.
    """

    occlusion: tuple[str, ...] = ("occlusion",)
    visible_face: tuple[str, ...] = ()
    face: tuple[str, ...] = ("face",)
    hole: tuple[str, ...] = ("hole",)
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every label has one role, and that there is one way to a truth."""
        named = [*self.occlusion, *self.visible_face, *self.face, *self.hole, *self.ignore]
        twice = sorted({label for label in named if named.count(label) > 1})
        if twice:
            raise ValueError(f"the label {twice[0]!r} has two roles")
        if bool(self.occlusion) == bool(self.visible_face):
            raise ValueError("occlusion or visible_face: name labels of one, and [] for the other")
        if self.visible_face and not self.face:
            raise ValueError("face must be named with visible_face: the truth is face minus visible_face")

    def role_of(self, label: object) -> Role:
        """Return the role of a label.

        Raises:
            ValueError: if it has none.
        """
        for role in ("occlusion", "visible_face", "face", "hole", "ignore"):
            if label in getattr(self, role):
                return role
        if ALL in self.ignore:
            return "ignore"
        known = [*self.occlusion, *self.visible_face, *self.face, *self.hole]
        raise ValueError(
            f"the label {label!r} is none of {', '.join(known)}; roles.ignore=[{label}] leaves it out, "
            "roles.occlusion=[...] gives other labels that meaning"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Area:
    """One thing that was drawn.

    Attributes:
        role: what it means.
        mask: (H, W) bool.
        group: number that ties areas together; None for none.
    """

    role: Role
    mask: Mask
    group: int | str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAnnotation:
    """What was drawn on one picture, original frame.

    Attributes:
        occlusion: (H, W) bool, True = occluded; inside the face where that is known: the truth.
        region: (H, W) bool, the face region; None if none is drawn in this collection.
    """

    occlusion: Mask
    region: Mask | None


def combine(areas: Sequence[Area], roles: LabelRoles, size: tuple[int, int]) -> FaceAnnotation:
    """Make truth and region of what was drawn.

    Args:
        areas: everything that was drawn, in any order.
        roles: says whether a face must be among it, and which way leads to the truth.
        size: (height, width) of the picture.

    Raises:
        ValueError: without any pixel of a face, or if a hole belongs to a group that nothing else belongs to.
    """
    drawn = _union(areas, "visible_face" if roles.visible_face else "occlusion", size)
    region = np.zeros(size, dtype=bool)
    for area in areas:
        if area.role == "face":
            region |= area.mask
    if not roles.face:
        return FaceAnnotation(occlusion=drawn, region=None)
    if not region.any():
        raise ValueError(
            f"no pixel of a face: outline the face and label it {roles.face[0]!r} (roles.face=[] where nobody did)"
        )
    return FaceAnnotation(occlusion=region & (~drawn if roles.visible_face else drawn), region=region)


def _union(areas: Sequence[Area], role: Role, size: tuple[int, int]) -> Mask:
    """Unite the areas of a role, each group without its holes, then cut the holes that belong to no group."""
    groups: dict[int | str | None, Mask] = {}
    for area in areas:
        if area.role == role:
            groups[area.group] = groups.get(area.group, np.zeros(size, dtype=bool)) | area.mask
    for area in areas:
        if area.role == "hole" and area.group is not None:
            if area.group not in groups:
                raise ValueError(
                    f"a hole belongs to group {area.group}, to which no {role} belongs: take it out of the group to "
                    "cut all"
                )
            groups[area.group] = groups[area.group] & ~area.mask
    united = np.zeros(size, dtype=bool)
    for mask in groups.values():
        united |= mask
    for area in areas:
        if area.role == "hole" and area.group is None:
            united &= ~area.mask
    return united
