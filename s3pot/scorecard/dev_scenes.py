"""Scenes of fold `dev` for the locator to be measured on: one face each, whose crop is known, covered or not.

They are drawn like those of the training (`s3pot.pretrain.locator_scenes`: side, roll, light and blur), but of faces
and cut-outs of fold `dev`, and of no portraits: nobody labelled their crops. Only the backgrounds were seen in
training; the other photographs, on which answers are counted too, were not.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from s3pot.composite import Cutout, list_cutouts, load_cutout
from s3pot.locator import LOCATOR_SIZE
from s3pot.parsing.classes import CLASSES, FACE_CLASSES
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.locator_scenes import Scene, SceneMaterial, draw_scene, read_backgrounds
from s3pot.pretrain.samples import draw_cutout
from s3pot.seeding import generator

SCENES = 200
Picture = Literal["clean", "occluded"]
_STAGE = "scorecard/locator"
# Half of the draws have no occluder, two faces or none.
_DRAWS_PER_SCENE = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class LocatorMaterial:
    """What a locator is measured on.

    Attributes:
        faces: bases of scenes.
        cutouts: occluders of scenes.
        photographs: without people, by name; the backgrounds of scenes, which training saw as well.
        others: more photographs without people, never seen in training; reported only.
        scenes: number of scenes with nothing on the face, and again with occluders.
    """

    faces: FaceBank
    cutouts: Sequence[Cutout]
    photographs: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]
    others: Mapping[str, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    scenes: int = SCENES


def load_dev_material(
    data: Path, excluded: Collection[str], with_people: Collection[str], scenes: int = SCENES
) -> LocatorMaterial:
    """Read faces and cut-outs of fold `dev`, the photographs of the training, and others where there are any.

    Args:
        data: folder with celebamask/train, occluders/train, natural/train and perhaps natural/val; no face and no
            cut-out of `val` is touched.
        excluded: ids of faces that are no clean bases.
        with_people: stems of photographs with people in them.
        scenes: number of scenes of each set.

    Raises:
        FileNotFoundError: if faces, cut-outs or photographs are missing.
    """
    faces = data / "celebamask" / "train"
    listed = list_cutouts(data / "occluders" / "train", "dev")
    unseen = data / "natural" / "val"
    return LocatorMaterial(
        faces=load_faces(faces, list_faces(faces, "dev", excluded)),
        cutouts=[load_cutout(kind, path) for kind, path in listed],
        photographs=read_backgrounds(data / "natural" / "train", with_people),
        others=read_backgrounds(unseen, with_people) if unseen.is_dir() else {},
        scenes=scenes,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class DevScene:
    """A scene with one face and where it comes from.

    Attributes:
        index: number of the draw.
        scene: picture and crop.
        face_id: whose face.
        cutout: what lies over it; None = nothing.
    """

    index: int
    scene: Scene
    face_id: str
    cutout: Cutout | None


def draw_dev_scenes(material: LocatorMaterial, picture: Picture, seed: int = 0) -> list[DevScene]:
    """Draw the scenes of one set, faces in turn: draw `index` has the same face in both sets.

    Raises:
        ValueError: if the material hardly ever gives such a scene.
    """
    drawn = list(islice(_scenes(material, picture, seed), material.scenes))
    if len(drawn) < material.scenes:
        raise ValueError(f"only {len(drawn)} of {material.scenes} {picture} scenes: do the labels show faces?")
    return drawn


def _scenes(material: LocatorMaterial, picture: Picture, seed: int) -> Iterator[DevScene]:
    backgrounds = list(material.photographs.values())
    for index in range(_DRAWS_PER_SCENE * material.scenes):
        row = index % len(material.faces)
        # One face and one cut-out at a time: a scene does not say which of many it drew.
        cutout = draw_cutout(material.cutouts, generator(seed, f"{_STAGE}/cutout", str(index)))
        own = SceneMaterial(faces=_face(material.faces, row), portraits=[], cutouts=[cutout], backgrounds=backgrounds)
        bare = _draw(replace(own, faces=_without_labels(own.faces)), seed, index)
        scene = bare if picture == "clean" else _draw(own, seed, index)
        # Nor whether it drew an occluder: if not, labels that nothing could be laid on make no difference.
        occluded = not np.array_equal(scene.image, bare.image)
        if len(scene.faces) == 1 and occluded == (picture == "occluded"):
            yield DevScene(index=index, scene=scene, face_id=own.faces.ids[0], cutout=cutout if occluded else None)


def _draw(own: SceneMaterial, seed: int, index: int) -> Scene:
    return draw_scene(own, size=LOCATOR_SIZE, seed=seed, stage=_STAGE, index=index)


def _face(faces: FaceBank, row: int) -> FaceBank:
    at = slice(row, row + 1)
    return FaceBank(ids=faces.ids[at], images=faces.images[at], parsings=faces.parsings[at])


def _without_labels(faces: FaceBank) -> FaceBank:
    """Call the face hair: `draw_scene` lays occluders over labelled faces only, and the person keeps the outline."""
    parsings = np.where(np.isin(faces.parsings, FACE_CLASSES), CLASSES.index("hair"), faces.parsings)
    return replace(faces, parsings=parsings.astype(np.uint8))
