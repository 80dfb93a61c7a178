"""What is to be imported: the pictures of a collection in one of the formats that are read, each with how to read it.

Listing is quick and looks at names only (of COCO, at the one file there is); what is slow, and what can be broken,
waits in `Item.read`. Nothing is written here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from s3pot.data.annotation import AnnotationError, FaceAnnotation, LabelRoles
from s3pot.data.celebamask import LabelledFace, labelled_face, list_parts, merge_parts, read_label_map
from s3pot.data.coco import CocoImage, draw_coco, read_coco
from s3pot.data.ffhq import list_ffhq
from s3pot.data.labelme import LabelmeFile, draw_labelme, read_labelme
from s3pot.data.mask_folder import Polarity, annotation_of, read_mask
from s3pot.data.pictures import by_stem, list_pictures, the_picture, upright_size
from s3pot.data.safe_names import find_picture
from s3pot.images import ImageError, decode_image
from s3pot.parsing.classes import LabelOrder

Pictures = dict[str, list[Path]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """What was read of one picture.

    Attributes:
        id: of the picture in its collection.
        size: (height, width), upright.
        path: of the picture's file; None if there is none, but `data`.
        data: the picture's bytes where they were embedded in an annotation and nowhere else.
        annotation: truth and region; None where neither is known.
        labels: what label maps say; None without.
    """

    id: str
    size: tuple[int, int]
    path: Path | None
    data: bytes | None = None
    annotation: FaceAnnotation | None = None
    labels: LabelledFace | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One picture to be imported.

    Attributes:
        where: the file to name when it cannot be.
        read: reads it; raises AnnotationError, ImageError, OutsideError or OSError.
    """

    where: str
    read: Callable[[], Imported]


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection:
    """Everything that was found.

    Attributes:
        items: in a stable order.
        broken: (file, problem) of what is no item.
        left_out: number of pictures that nobody annotated.
    """

    items: list[Item]
    broken: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0


def folder_collection(
    images: Path,
    *,
    masks: Path | None = None,
    regions: Path | None = None,
    polarity: Polarity = "occlusion",
    decode: bool = True,
) -> Collection:
    """List a plain folder; with `masks`, only pictures that have one, `<masks>/<id>.png`.

    Raises:
        ImageError: if there are no pictures.
    """
    pictures = list_pictures(images)
    chosen = [name for name in pictures if masks is None or (masks / f"{name}.png").is_file()]
    read = partial(_read_from_folder, masks=masks, regions=regions, polarity=polarity, decode=decode)
    return Collection(
        items=[Item(where=str(pictures[name][0]), read=partial(read, name, pictures[name])) for name in chosen],
        left_out=len(pictures) - len(chosen),
    )


def ffhq_collection(images: Path, *, decode: bool = True) -> Collection:
    """List FFHQ in any of its layouts.

    Raises:
        ImageError: as `list_ffhq`.
    """
    pictures, broken = list_ffhq(images)
    read = partial(_read_from_folder, masks=None, regions=None, polarity="occlusion", decode=decode)
    items = [Item(where=str(path), read=partial(read, name, [path])) for name, path in sorted(pictures.items())]
    return Collection(items=items, broken=[(problem.split(":")[0], problem) for problem in broken])


def parts_collection(images: Path, parts: Path, *, decode: bool = True) -> Collection:
    """List CelebAMask-HQ with its masks per part; ids are the names of the pictures, `12` of `12.jpg`.

    Raises:
        ImageError: if there are no pictures.
        FileNotFoundError: if there are no parts.
    """
    found, broken = list_parts(parts)
    numbered: Pictures = {}
    for name, paths in by_stem(images).items():
        if name.isdigit():
            numbered.setdefault(str(int(name)), []).extend(paths)
    items = []
    for number, of_picture in sorted(found.items()):
        where = next(iter(of_picture.values()))
        pictures = numbered.get(str(number), [])
        items.append(Item(where=str(where), read=partial(_read_parts, number, pictures, of_picture, decode)))
    without = len(numbered.keys() - {str(number) for number in found})
    return Collection(
        items=items, broken=[(problem.split(":")[0], problem) for problem in broken], left_out=max(without, 0)
    )


def label_map_collection(images: Path, maps: Path, order: LabelOrder, *, decode: bool = True) -> Collection:
    """List pictures with merged label maps `<maps>/<id>.png` of a named order.

    Raises:
        ImageError: if there are no pictures or no maps.
    """
    pictures, found = list_pictures(images), list_pictures(maps)
    items = [
        Item(where=str(paths[0]), read=partial(_read_label_map, name, pictures.get(name, []), paths, order, decode))
        for name, paths in found.items()
    ]
    return Collection(items=items, left_out=len(pictures.keys() - found.keys()))


def labelme_collection(
    annotations: Path, images: Path | None, roles: LabelRoles, *, outside: bool = False, decode: bool = True
) -> Collection:
    """List LabelMe or X-AnyLabeling files below a folder; an id is the file's path below it without its suffix.

    Raises:
        FileNotFoundError: if there are none.
        ImageError: if `images` holds no picture.
    """
    files = sorted(path for path in annotations.rglob("*.json") if not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"annotations={annotations}: no .json files")
    try:
        pictures = by_stem(images or annotations)
    except ImageError:
        if images is not None:
            raise
        pictures = {}  # every picture is embedded, or named by its annotation
    read = partial(
        _read_labelme, root=annotations, images=images, pictures=pictures, roles=roles, outside=outside, decode=decode
    )
    stems = {path.stem for path in files}
    return Collection(
        items=[Item(where=str(path), read=partial(read, path)) for path in files],
        left_out=sum(len(paths) for name, paths in pictures.items() if name not in stems),
    )


def coco_collection(
    annotations: Path, images: Path, roles: LabelRoles, *, outside: bool = False, decode: bool = True
) -> Collection:
    """List the annotated pictures of a COCO file; an id is the picture's `file_name` without its suffix.

    Raises:
        AnnotationError: if it is no COCO file.
    """
    file = read_coco(annotations)
    read = partial(_read_coco, annotations=annotations, images=images, roles=roles, outside=outside, decode=decode)
    return Collection(
        items=[Item(where=f"{annotations}: {image.name}", read=partial(read, image)) for image in file.images],
        broken=[(str(annotations), problem) for problem in file.broken],
        left_out=file.unlabelled,
    )


def _read_from_folder(
    name: str, found: list[Path], *, masks: Path | None, regions: Path | None, polarity: Polarity, decode: bool
) -> Imported:
    path = the_picture(name, found)
    size = upright_size(path, decode=decode)
    region = None if regions is None else read_mask(regions / f"{name}.png", size)
    annotation = None
    if masks is not None:
        annotation = annotation_of(read_mask(masks / f"{name}.png", size), region, polarity)
    return Imported(id=name, size=size, path=path, annotation=annotation)


def _read_parts(number: int, found: list[Path], parts: dict[str, Path], decode: bool) -> Imported:
    path = the_picture(f"{next(iter(parts.values()))}: picture {number}", found)
    size = upright_size(path, decode=decode)
    labels = labelled_face(merge_parts(parts), size, str(next(iter(parts.values())).parent / f"{number:05d}_*.png"))
    return Imported(id=path.stem, size=size, path=path, labels=labels)


def _read_label_map(name: str, found: list[Path], maps: list[Path], order: LabelOrder, decode: bool) -> Imported:
    label_map, path = the_picture(name, maps), the_picture(f"{maps[0]}", found)
    size = upright_size(path, decode=decode)
    labels = labelled_face(read_label_map(label_map, order), size, str(label_map))
    return Imported(id=name, size=size, path=path, labels=labels)


def _read_labelme(
    path: Path, *, root: Path, images: Path | None, pictures: Pictures, roles: LabelRoles, outside: bool, decode: bool
) -> Imported:
    file = read_labelme(path)
    picture = _picture_of(file, images, pictures, outside)
    if picture is None:
        assert file.picture_data is not None
        height, width, _ = decode_image(file.picture_data, f"{path}: imageData").shape
        size = (height, width)
    else:
        size = upright_size(picture, decode=decode)
    return Imported(
        id=file.id or path.relative_to(root).with_suffix("").as_posix(),
        size=size,
        path=picture,
        data=None if picture is not None else file.picture_data,
        annotation=draw_labelme(file, size, roles),
    )


def _picture_of(file: LabelmeFile, images: Path | None, pictures: Pictures, outside: bool) -> Path | None:
    """Find the picture: the one named, the one of the annotation's name, or None for the embedded one."""
    if file.picture is not None:
        named = find_picture(file.picture, file.path.parent, images, outside=outside)
        if named is not None:
            return named
    of_its_name = pictures.get(file.path.stem, [])
    if of_its_name or file.picture_data is None:
        return the_picture(str(file.path), of_its_name)
    return None


def _read_coco(
    image: CocoImage, *, annotations: Path, images: Path, roles: LabelRoles, outside: bool, decode: bool
) -> Imported:
    path = find_picture(image.name, images, images, outside=outside)
    if path is None:
        raise ImageError(f"{annotations}: no picture {image.name!r} below {images}")
    size = upright_size(path, decode=decode)
    try:
        annotation = draw_coco(image, size, roles)
    except AnnotationError as error:
        raise AnnotationError(f"{annotations}: {error}") from error
    own = Path(image.name.replace("\\", "/")).with_suffix("").as_posix()
    return Imported(id=image.id or own.lstrip("/"), size=size, path=path, annotation=annotation)
