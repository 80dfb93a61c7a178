import numpy as np
import pytest

from s3pot.data.annotation import Area, LabelRoles, combine

SIZE = (6, 8)
SEEN = LabelRoles(occlusion=(), visible_face=("skin",))


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_truth_is_occlusion_minus_hole_inside_the_face() -> None:
    areas = [
        Area(role="hole", mask=box(2, 2, 3, 3)),
        Area(role="face", mask=box(0, 1, 4, 7)),
        Area(role="occlusion", mask=box(1, 0, 6, 5)),
        Area(role="occlusion", mask=box(0, 6, 1, 8)),
    ]
    expected = (box(1, 1, 4, 5) & ~box(2, 2, 3, 3)) | box(0, 6, 1, 7)
    for ordered in (areas, areas[::-1]):
        made = combine(ordered, LabelRoles(), SIZE)
        np.testing.assert_array_equal(made.occlusion, expected)
        np.testing.assert_array_equal(made.region, box(0, 1, 4, 7))


def test_what_is_visible_is_not_occluded() -> None:
    areas = [
        Area(role="face", mask=box(0, 0, 4, 4)),
        Area(role="visible_face", mask=box(0, 0, 2, 8)),
        Area(role="hole", mask=box(0, 0, 1, 1)),
    ]
    made = combine(areas, SEEN, SIZE)
    np.testing.assert_array_equal(made.occlusion, box(2, 0, 4, 4) | box(0, 0, 1, 1))


def test_a_face_without_occlusion_has_an_empty_truth() -> None:
    made = combine([Area(role="face", mask=box(0, 0, 6, 8))], LabelRoles(), SIZE)
    assert not made.occlusion.any()


def test_where_nobody_draws_faces_the_region_is_unknown_and_the_truth_as_drawn() -> None:
    made = combine([Area(role="occlusion", mask=box(1, 1, 3, 3))], LabelRoles(face=()), SIZE)
    assert made.region is None
    np.testing.assert_array_equal(made.occlusion, box(1, 1, 3, 3))


def test_an_island_in_a_hole_survives_when_the_hole_has_a_group() -> None:
    ring = [Area(role="occlusion", mask=box(0, 0, 6, 8), group=1), Area(role="hole", mask=box(1, 1, 5, 7), group=1)]
    island = Area(role="occlusion", mask=box(2, 2, 4, 4))
    roles = LabelRoles(face=())
    expected = (box(0, 0, 6, 8) & ~box(1, 1, 5, 7)) | box(2, 2, 4, 4)
    np.testing.assert_array_equal(combine([*ring, island], roles, SIZE).occlusion, expected)
    free_hole = Area(role="hole", mask=box(1, 1, 5, 7))
    without_island = combine([ring[0], island, free_hole], roles, SIZE).occlusion
    np.testing.assert_array_equal(without_island, box(0, 0, 6, 8) & ~box(1, 1, 5, 7))


def test_a_hole_in_nothing_is_a_mistake() -> None:
    areas = [Area(role="occlusion", mask=box(0, 0, 6, 8)), Area(role="hole", mask=box(1, 1, 5, 7), group=4)]
    with pytest.raises(ValueError, match="a hole belongs to group 4, to which no occlusion belongs"):
        combine(areas, LabelRoles(face=()), SIZE)


@pytest.mark.parametrize("areas", [[], [Area(role="face", mask=box(0, 0, 0, 0))]])
def test_a_face_must_be_there_where_faces_are_drawn(areas: list[Area]) -> None:
    with pytest.raises(ValueError, match="no pixel of a face: outline the face and label it 'face'"):
        combine(areas, LabelRoles(), SIZE)


def test_labels_and_their_roles() -> None:
    roles = LabelRoles(occlusion=("hand", "cup"), face=("head",), hole=(), ignore=("shadow",))
    assert [roles.role_of(label) for label in ("hand", "cup", "head", "shadow")] == [
        "occlusion",
        "occlusion",
        "face",
        "ignore",
    ]
    for unknown in ("hole", "Hand", None, 3):
        with pytest.raises(ValueError, match=r"is none of hand, cup, head; roles\.ignore"):
            roles.role_of(unknown)
    assert LabelRoles(ignore=("*",)).role_of("whatever") == "ignore"
    assert LabelRoles(ignore=("*",)).role_of("face") == "face"


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"occlusion": ("face",)}, "the label 'face' has two roles"),
        ({"occlusion": ()}, "occlusion or visible_face"),
        ({"visible_face": ("skin",)}, "occlusion or visible_face"),
        ({"occlusion": (), "visible_face": ("skin",), "face": ()}, "face must be named"),
    ],
)
def test_roles_that_lead_to_no_truth(roles: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelRoles(**roles)
