from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import normalize, pil_to_tensor

from s3pot.checkpoints.reading import WeightsError
from s3pot.parsing.bisenet import BiSeNet, BiSeNetLogits, bisenet_input, load_bisenet, parse_faces_bisenet
from s3pot.parsing.classes import CLASSES, labels_to_12
from tests.parity import (
    TOLERANCE,
    description,
    differences,
    errors_when_perturbed,
    fill_from_description,
    relative_error,
)

# What no recorded output depends on: the third head [shared/parity/README.md].
UNSEEN = ("conv_out32.",)


@pytest.fixture(scope="module")
def state_file(shared_parity: Path) -> Path:
    return shared_parity / "bisenet_state.json"


@pytest.fixture(scope="module")
def recorded(shared_parity: Path) -> dict[str, np.ndarray]:
    with np.load(shared_parity / "fixture.npz") as fixture:
        return {name: fixture[f"bisenet_{name}"] for name in ("logits_64", "aux16_64")}


@pytest.fixture(scope="module")
def released(state_file: Path) -> BiSeNet:
    """The network with the weights of the fixture; tests leave them as they are."""
    parser = random_parser()
    fill_from_description(parser, state_file)
    return parser


@pytest.fixture(scope="module")
def run(released: BiSeNet, shared_parity: Path) -> Callable[[], dict[str, Tensor]]:
    """Outputs on the picture of the fixture, every eighth row and column: nearest from 512 to 64."""
    with np.load(shared_parity / "fixture.npz") as fixture:
        image = torch.from_numpy(fixture["image"])[None]

    def outputs() -> dict[str, Tensor]:
        with torch.no_grad():
            logits = released(image)
        return {"logits_64": logits.fused[..., ::8, ::8], "aux16_64": logits.aux16[..., ::8, ::8]}

    return outputs


def random_parser() -> BiSeNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BiSeNet().eval().requires_grad_(False)


def pictures(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_the_state_dict_is_the_released_one(state_file: Path) -> None:
    assert differences(BiSeNet(), state_file) == []
    assert list(BiSeNet().state_dict()) == [entry["key"] for entry in description(state_file)]


def test_another_number_of_classes_is_another_state_dict(state_file: Path) -> None:
    assert [line.partition(":")[0] for line in differences(BiSeNet(classes=18), state_file)] == [
        f"{head}.conv_out.weight" for head in ("conv_out", "conv_out16", "conv_out32")
    ]


def test_the_outputs_are_those_of_the_released_network(
    run: Callable[[], dict[str, Tensor]], recorded: dict[str, np.ndarray]
) -> None:
    found = run()
    assert {name: relative_error(found[name], recorded[name]) < TOLERANCE for name in recorded} == {
        "logits_64": True,
        "aux16_64": True,
    }


def test_parity_fails_when_a_tensor_of_any_module_is_perturbed(
    released: BiSeNet, run: Callable[[], dict[str, Tensor]], recorded: dict[str, np.ndarray]
) -> None:
    names = one_tensor_of_every_module(released)
    assert len(names) == 64  # 34 convolutions and 30 normalisations lie outside the third head
    errors = errors_when_perturbed(released, run, recorded, names)
    assert {name: error for name, error in errors.items() if not error > TOLERANCE} == {}


@pytest.mark.slow
def test_parity_fails_when_any_tensor_is_perturbed(
    released: BiSeNet, run: Callable[[], dict[str, Tensor]], recorded: dict[str, np.ndarray]
) -> None:
    names = [name for name, value in released.state_dict().items() if seen(name) and value.dtype.is_floating_point]
    errors = errors_when_perturbed(released, run, recorded, names)
    assert {name: error for name, error in errors.items() if not error > TOLERANCE} == {}


def seen(name: str) -> bool:
    return not name.startswith(UNSEEN)


def one_tensor_of_every_module(parser: BiSeNet) -> list[str]:
    """A tensor of each module that reaches an output; the kinds of a normalisation take turns."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    norms = [name for name, module in parser.named_modules() if isinstance(module, nn.BatchNorm2d) and seen(name)]
    layers = [name for name, module in parser.named_modules() if isinstance(module, nn.Conv2d) and seen(name)]
    return [f"{name}.weight" for name in layers] + [f"{name}.{kinds[turn % 4]}" for turn, name in enumerate(norms)]


def test_the_third_head_is_a_head_of_the_coarser_context(released: BiSeNet) -> None:
    image = pictures(1, 64, 64)
    context16 = released.cp(image)[2]
    expected = nn.functional.interpolate(released.conv_out32(context16), (64, 64), mode="bilinear", align_corners=True)
    assert context16.shape == (1, 128, 4, 4)
    torch.testing.assert_close(released(image).aux32, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (70, 90)])
def test_all_heads_have_the_resolution_of_the_picture(height: int, width: int) -> None:
    logits = random_parser()(pictures(2, height, width))
    assert [head.shape for head in logits] == [(2, 19, height, width)] * 3
    assert all(torch.isfinite(head).all() for head in logits)


def test_the_main_logits_are_those_of_the_first_head() -> None:
    parser, images = random_parser(), pictures(1, 64, 64)
    torch.testing.assert_close(parser.main_logits(images), parser(images).fused, rtol=0, atol=0)
    assert BiSeNetLogits._fields[0] == "fused"


def test_input_is_normalised_as_imagenet_per_rgb_channel() -> None:
    images = torch.zeros(1, 3, 512, 512)
    images[:, 0] = 1.0
    expected = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    found = bisenet_input(images)
    torch.testing.assert_close(found, expected.reshape(1, 3, 1, 1).expand(1, 3, 512, 512))
    torch.testing.assert_close(found[0], normalize(images[0], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def test_input_is_resized_as_pillow_does(rng: np.random.Generator) -> None:
    picture = Image.fromarray(rng.integers(0, 256, (1024, 700, 3), dtype=np.uint8))
    expected = pil_to_tensor(picture.resize((512, 512), Image.Resampling.BILINEAR)).float() / 255
    scale = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    difference = (bisenet_input(pil_to_tensor(picture)[None].float() / 255)[0] * scale).sub(
        expected - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    )
    assert difference.abs().max() < 1.01 / 255  # Pillow rounds to whole grey levels after either direction


class PaintedParser(BiSeNet):
    """Sees one of the 19 classes in each vertical stripe of the picture."""

    def main_logits(self, image: Tensor) -> Tensor:
        assert image.shape[-2:] == (512, 512)
        stripes = torch.arange(512) * 19 // 512
        return nn.functional.one_hot(stripes, 19).T.float()[None, :, None].expand(len(image), -1, 512, -1)


@pytest.mark.parametrize("side", [19 * 8, 512, 19 * 54])
def test_labels_are_converted_and_have_the_size_of_the_pictures(side: int) -> None:
    labels = parse_faces_bisenet(PaintedParser().eval(), pictures(2, 40, side))
    assert labels.dtype == torch.uint8
    assert labels.shape == (2, 40, side)
    middles = ((torch.arange(19) + 0.5) * side / 19).long()
    expected = labels_to_12(np.arange(19, dtype=np.uint8), "face_parsing_pytorch")
    assert labels[1, 20, middles].tolist() == expected.tolist()
    # By hand: skin, brows, eyes, glasses, ears, ring, nose, mouth, lips, neck, necklace, cloth, hair, hat.
    assert [CLASSES[label] for label in labels[0, 0, middles]] == (
        "background skin eyebrows eyebrows eyes eyes eye_glass ears ears ear_rings nose mouth lip lip below_face"
        " below_face background hair background"
    ).split()


def test_labels_are_the_likeliest_class_of_the_network_and_keep_no_graph() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parser = BiSeNet().eval()  # trainable
    images = pictures(1, 512, 512)
    likeliest = parser(bisenet_input(images)).fused.argmax(dim=1).numpy().astype(np.uint8)
    found = parse_faces_bisenet(parser, images)
    assert np.array_equal(found.numpy(), labels_to_12(likeliest, "face_parsing_pytorch"))
    assert np.unique(likeliest).size > 1, "one class everywhere would show nothing"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_is_loaded(tmp_path: Path, prefix: str) -> None:
    source = random_parser()
    torch.save({prefix + name: value for name, value in source.state_dict().items()}, tmp_path / "79999_iter.pth")
    loaded = load_bisenet(tmp_path / "79999_iter.pth")
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_checkpoint_in_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save(random_parser().half().state_dict(), tmp_path / "half.pth")
    assert {weight.dtype for weight in load_bisenet(tmp_path / "half.pth").parameters()} == {torch.float32}


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save(BiSeNet(classes=18).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: does not fit BiSeNet: 3 of another shape"):
        load_bisenet(tmp_path / "other.pth")
