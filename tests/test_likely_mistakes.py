import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from torch import Tensor, nn

from s3pot.chain import ChainConfig, load_prefix
from s3pot.known_face import NOSE_TIP, KnownFace, known_face, middle_of
from s3pot.likely_mistakes import AS_THE_CHAIN, BGR, ways_to_generate, ways_to_parse, ways_to_prompt
from s3pot.parsing.bisenet import BiSeNet
from s3pot.prefix import FrozenPrefix, PrefixConfig
from s3pot.reference.e4s.model import E4S

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def face() -> KnownFace:
    return known_face(256)


@pytest.fixture(scope="module")
def prefix() -> FrozenPrefix:
    return load_prefix(ChainConfig(device="cpu", prefix=PrefixConfig(face_completion="none")))


def test_the_first_way_is_what_the_chain_does(prefix: FrozenPrefix, face: KnownFace) -> None:
    clean = prefix.run([face.clean], ["clean"])[0]
    parsing = ways_to_parse(prefix.parser, face, CPU)[AS_THE_CHAIN]()
    assert np.array_equal(parsing, clean.parsing)
    occluded = prefix.run([face.occluded], ["occluded"], parsings=[parsing])[0]
    assert np.array_equal(ways_to_generate(prefix.generator, face, parsing, CPU)[AS_THE_CHAIN](), occluded.reference)


def test_bisenet_is_asked_as_the_chain_asks_it(prefix: FrozenPrefix, face: KnownFace) -> None:
    torch.manual_seed(0)
    bisenet = BiSeNet().eval()
    chain = FrozenPrefix(bisenet, prefix.generator, prefix.sam, prefix.config)
    assert np.array_equal(ways_to_parse(bisenet, face, CPU)[AS_THE_CHAIN](), chain.run([face.clean], [""])[0].parsing)


def test_masks_are_those_of_the_stock_predictor(prefix: FrozenPrefix, face: KnownFace) -> None:
    predictor = SamPredictor(prefix.sam.sam)
    for swapped, way in ((False, AS_THE_CHAIN), (True, BGR)):
        masks = ways_to_prompt(prefix.sam, face)[way]()
        points = ((int(NOSE_TIP[0] * 256), int(NOSE_TIP[1] * 256)), middle_of(face.scarf))
        for mask, picture, point in zip(masks, (face.clean, face.occluded), points, strict=True):
            predictor.set_image(picture, image_format="BGR" if swapped else "RGB")
            stock, _, _ = predictor.predict(np.array([point]), np.array([1]), multimask_output=False)
            assert (mask != stock[0]).mean() < 1e-3


class Copying(E4S):
    """Gives back what it is shown, if that is in [low, 1], and remembers the labels."""

    def __init__(self, low: float) -> None:
        nn.Module.__init__(self)
        self.low = low

    def forward(
        self, image: Tensor, labels: Tensor, target: Tensor | None = None, fresh_noise: torch.Generator | None = None
    ) -> Tensor:
        self.shown, self.labels = image, labels
        return image if image.min() >= self.low else torch.zeros_like(image)


ZERO_ONE = "pictures in [0, 1] rather than [-1, 1]"


@pytest.mark.parametrize(("low", "good"), [(-1.0, {AS_THE_CHAIN, BGR, ZERO_ONE}), (0.0, {ZERO_ONE})])
def test_pictures_of_e4s_come_back_in_the_range_they_went_in(low: float, good: set[str], face: KnownFace) -> None:
    ways = ways_to_generate(Copying(low), face, np.zeros((256, 256), dtype=np.uint8), CPU)
    assert {name for name, draw in ways.items() if np.abs(draw().astype(int) - face.occluded).max() <= 1} == good


def test_e4s_is_shown_bgr_and_takes_no_style_from_the_scarf(face: KnownFace) -> None:
    model = Copying(-1.0)
    ways_to_generate(model, face, np.ones((256, 256), dtype=np.uint8), CPU)[BGR]()
    blue_first = face.occluded[..., ::-1] / 127.5 - 1.0
    assert np.allclose(model.shown[0].permute(1, 2, 0).numpy(), blue_first, atol=1e-5)
    assert np.array_equal(model.labels[0].numpy() == 255, face.scarf)
