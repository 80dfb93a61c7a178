from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from s3pot.parsing.classes import CLASSES
from s3pot.pretrain.faces import list_faces, load_faces
from s3pot.reference.landmarks import (
    LANDMARKS,
    MIRRORED,
    LandmarkDetector,
    confidence_at,
    landmark_heat,
    peak_positions,
    read_landmarks,
)
from tests.faces import PARTS, draw_face


def named(positions: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(LANDMARKS, positions, strict=True))


@pytest.fixture
def detector() -> LandmarkDetector:
    torch.manual_seed(0)
    return LandmarkDetector().eval()


class Painted(LandmarkDetector):
    """Hot in one cell per landmark, wherever the picture is bright there; cold elsewhere."""

    def __init__(self, cells: list[tuple[int, int]]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, image: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 4)
        logits = torch.full((len(image), len(LANDMARKS), 32, 32), -9.0)
        for place, (row, col) in enumerate(self.cells):
            logits[:, place, row, col] = 18.0 * small[:, 0, row, col] - 9.0
        return logits


def test_landmarks_of_the_drawn_face() -> None:
    found = named(read_landmarks(draw_face(256)[1]))
    # PARTS gives centres and half axes in shares of the side; brows and eyes stand there left first.
    centers: dict[str, list[tuple[float, float]]] = {}
    for name, center, _ in PARTS:
        centers.setdefault(name, []).append(center)
    for part, name in (("eyebrows", "brow"), ("eyes", "eye")):
        for side, center in zip(("left", "right"), centers[part], strict=True):
            np.testing.assert_allclose(found[f"{side}_{name}"], np.array(center) * 256, atol=1.0)
    np.testing.assert_allclose(found["nose"], [128, 0.56 * 256], atol=1.0)
    np.testing.assert_allclose(found["mouth"], [128, 0.74 * 256], atol=1.0)
    np.testing.assert_allclose(found["left_mouth_corner"], [0.39 * 256, 0.74 * 256], atol=3.0)
    np.testing.assert_allclose(found["right_mouth_corner"], [0.61 * 256, 0.74 * 256], atol=3.0)
    assert found["left_nostril"][0] == pytest.approx(0.45 * 256, abs=3.0)
    assert found["right_nostril"][0] == pytest.approx(0.55 * 256, abs=3.0)
    assert found["left_nostril"][1] > found["nose"][1]
    np.testing.assert_allclose(
        found["chin"], [128, 0.89 * 256], atol=6.0
    )  # the mean of the lowest rows, not the lowest


@pytest.mark.parametrize("degrees", [-35, -15, 20, 35])
def test_landmarks_turn_with_the_face(degrees: float) -> None:
    parsing = draw_face(256)[1]
    matrix = cv2.getRotationMatrix2D((127.5, 127.5), degrees, 0.9)
    turned = cv2.warpAffine(parsing, matrix, (256, 256), flags=cv2.INTER_NEAREST)
    expected = read_landmarks(parsing) @ matrix[:, :2].T + matrix[:, 2]
    found = read_landmarks(turned)
    chin = LANDMARKS.index("chin")
    np.testing.assert_allclose(np.delete(found, chin, 0), np.delete(expected, chin, 0), atol=2.5)
    np.testing.assert_allclose(found[chin], expected[chin], atol=6.0)


def test_a_mirrored_face_has_mirrored_landmarks() -> None:
    parsing = draw_face(256)[1]
    parsing = cv2.warpAffine(parsing, cv2.getRotationMatrix2D((128, 128), 12, 1.0), (256, 256), flags=cv2.INTER_NEAREST)
    mirrored = read_landmarks(np.ascontiguousarray(parsing[:, ::-1]))
    expected = read_landmarks(parsing)[list(MIRRORED)] * [-1, 1] + [255, 0]
    np.testing.assert_allclose(mirrored, expected, atol=1e-6)


def test_every_landmark_has_its_counterpart() -> None:
    swap = {"left": "right", "right": "left"}
    for name, place in zip(LANDMARKS, MIRRORED, strict=True):
        side, _, rest = name.partition("_")
        assert LANDMARKS[place] == (f"{swap[side]}_{rest}" if side in swap else name)


def test_a_hidden_part_has_no_place() -> None:
    parsing = draw_face(256)[1]
    left = (parsing == CLASSES.index("eyes")) & (np.arange(256) < 128)
    parsing[left] = CLASSES.index("hair")
    found = named(read_landmarks(parsing))
    assert np.isnan(found.pop("left_eye")).all()
    assert all(np.isfinite(position).all() for position in found.values())


def test_a_cut_off_chin_is_none() -> None:
    parsing = draw_face(256)[1][: int(0.85 * 256)]
    found = named(read_landmarks(parsing))
    assert np.isnan(found["chin"]).all()
    assert np.isfinite(found["mouth"]).all()


@pytest.mark.parametrize("part", ["nose", "mouth"])
def test_without_nose_or_mouth_nothing_is_read(part: str) -> None:
    parsing = draw_face(256)[1]
    parsing[np.isin(parsing, [CLASSES.index(name) for name in ((part, "lip") if part == "mouth" else (part,))])] = 6
    assert np.isnan(read_landmarks(parsing)).all()


def test_specks_are_no_parts() -> None:
    parsing = draw_face(256)[1]
    speck = parsing.copy()
    speck[parsing == CLASSES.index("eyes")] = CLASSES.index("skin")
    speck[110:112, 80:83] = CLASSES.index("eyes")  # 6 pixels; 13 are the least
    assert np.isnan(named(read_landmarks(speck))["left_eye"]).all()


def test_heat_has_the_shape_and_range_of_a_probability(detector: LandmarkDetector) -> None:
    heat = landmark_heat(detector, [draw_face(256)[0], draw_face(128)[0]])
    assert heat.shape == (2, len(LANDMARKS), 32, 32)
    assert heat.dtype == np.float32
    assert 0.0 <= heat.min() < heat.max() <= 1.0


def test_size_and_view_are_as_documented(detector: LandmarkDetector) -> None:
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    assert round(parameters / 1e6, 2) == 0.36
    # Without norms, whose statistics couple all places, a heat value sees 55 pixels across and no farther.
    for module in list(detector.modules()):
        if isinstance(module, nn.Sequential):
            for place, layer in enumerate(module):
                if isinstance(layer, nn.GroupNorm):
                    module[place] = nn.Identity()
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 128, 128).double().requires_grad_()
    detector.double()(picture)[0, :, 16, 16].sum().backward()
    assert picture.grad is not None
    rows, cols = torch.nonzero(picture.grad.abs().sum(dim=1)[0], as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 <= 55
    assert 45 <= int(cols.max() - cols.min()) + 1 <= 55


def test_a_smaller_picture_is_padded_not_squashed() -> None:
    # White at half height: the heat cell (24, 3) lies in the padding of a lying picture and stays cold.
    cells = [(24, 3)] * len(LANDMARKS)
    lying, square = np.full((128, 256, 3), 255, np.uint8), np.full((256, 256, 3), 255, np.uint8)
    heat = landmark_heat(Painted(cells), [lying, square])
    assert heat[0, 0, 24, 3] < 0.01
    assert heat[1, 0, 24, 3] > 0.99


def test_peaks_by_hand() -> None:
    heat = np.zeros((2, 32, 32), dtype=np.float32)
    heat[0, 10, 20], heat[1, 0, 31] = 0.4, 0.2
    # Cells are 8 px wide in a picture of 256: cell 20 has its centre between pixels 163 and 164.
    np.testing.assert_array_equal(peak_positions(heat, 256), [[163.5, 83.5], [251.5, 3.5]])
    np.testing.assert_array_equal(peak_positions(heat, 128), [[81.5, 41.5], [125.5, 1.5]])


def test_confidence_by_hand() -> None:
    heat = np.zeros((4, 32, 32), dtype=np.float32)
    heat[:, 10, 20] = 0.8
    positions = np.array(
        [
            [163.5, 83.5],  # on the cell
            [163.5 - 12.0, 83.5],  # 1.5 cells beside it: still the same part
            [163.5 - 12.1, 83.5],  # a little farther
            [np.nan, np.nan],
        ]
    )
    found = confidence_at(heat, positions, 256)
    np.testing.assert_allclose(found[:3], [0.8, 0.8, 0.0], atol=1e-6)
    assert np.isnan(found[3])


def test_a_place_outside_is_read_at_the_edge() -> None:
    heat = np.zeros((1, 32, 32), dtype=np.float32)
    heat[0, 31, 31] = 0.5
    assert confidence_at(heat, np.array([[300.0, 300.0]]), 256) == [0.5]


def test_every_weight_gets_a_gradient(detector: LandmarkDetector) -> None:
    detector(torch.rand(1, 3, 64, 64)).square().mean().backward()
    idle = [name for name, weight in detector.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


def test_real_faces_show_all_landmarks_in_their_order(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    for parsing in load_faces(root, list_faces(root, "dev")[:6]).parsings:
        found = named(read_landmarks(parsing))
        assert found["left_eye"][0] < found["nose"][0] < found["right_eye"][0]
        assert found["left_mouth_corner"][0] < found["mouth"][0] < found["right_mouth_corner"][0]
        heights = [found[name][1] for name in ("left_brow", "left_eye", "nose", "mouth", "chin")]
        assert heights == sorted(heights)
