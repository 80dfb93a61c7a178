from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from s3pot.chain import ChainConfig, load_prefix
from s3pot.embedded import load_parser, load_weights, weights_path
from s3pot.known_face import KnownFace, known_face
from s3pot.likely_mistakes import BGR
from s3pot.parsing.bisenet import BISENET_ORDER, BiSeNet
from s3pot.parsing.classes import CLASSES, LABEL_ORDERS
from s3pot.parsing.network import FaceParser
from s3pot.prefix import FrozenPrefix
from s3pot.reference.generator import ReferenceGenerator
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.resampling import resample
from s3pot.sam.promptable import PromptableSam
from s3pot.selftest import FACE_IOU, FACE_SHARE, PLACES, Finding, Part, examine, run_selftest

MINUS_ONE = "pictures in [-1, 1] rather than ImageNet normalisation"
# One of the 19 classes for each of the 12.
SPELLED = {
    "background": "background",
    "lip": "l_lip",
    "eyebrows": "l_brow",
    "eyes": "r_eye",
    "hair": "hair",
    "nose": "nose",
    "skin": "skin",
    "ears": "l_ear",
    "below_face": "neck",
    "mouth": "mouth",
    "eye_glass": "eye_g",
    "ear_rings": "ear_r",
}


@pytest.fixture(scope="module")
def face() -> KnownFace:
    return known_face(256)


@pytest.fixture
def prefix() -> FrozenPrefix:
    return load_prefix(ChainConfig(device="cpu"))


class SeesBgr(FaceParser):
    """The embedded parser as if it had been trained on BGR."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.flip(1))


class DrawsBgr(ReferenceGenerator):
    """The embedded generator as if it had been trained on BGR."""

    def forward(self, image: Tensor, parsing: Tensor) -> Tensor:
        return super().forward(image.flip(1), parsing).flip(1)


class SamOfBgr(PromptableSam):
    """A SAM as if it had been trained on BGR."""

    def encode(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return super().encode([image[..., ::-1] for image in images])


class ActsAsBiSeNet(BiSeNet):
    """The embedded parser in the place of BiSeNet: 19 labels in an order of choice, fed in a way of choice."""

    def __init__(self, order: str = BISENET_ORDER, *, bgr: bool = False, minus_one: bool = False) -> None:
        nn.Module.__init__(self)
        self.parser = load_parser()
        self.order, self.bgr, self.minus_one = LABEL_ORDERS[order], bgr, minus_one

    def main_logits(self, image: Tensor) -> Tensor:
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
        pixels = (image + 1) / 2 if self.minus_one else image * std + mean
        logits = self.parser(resample(pixels.flip(1) if self.bgr else pixels, (256, 256)))
        if self.minus_one and image.abs().max() > 1.001:
            logits = torch.zeros_like(logits)  # lost: it never saw such values
        spread = torch.full((len(image), 19, 256, 256), -100.0)
        for number, name in enumerate(CLASSES):
            spread[:, self.order.index(SPELLED[name])] = logits[:, number]
        return resample(spread, (512, 512))


def of(part: Part, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.part == part]


def test_the_embedded_models_pass() -> None:
    findings = run_selftest(ChainConfig(device="cpu"))
    assert [finding.part for finding in findings] == ["parser"] * 3 + ["generator"] * 2 + ["sam"] * 2
    for finding in findings:
        assert finding.value is not None
        assert finding.low <= finding.value <= finding.high
        assert finding.ok
        assert not finding.estimated
        assert "likely cause" not in finding.note


def test_they_pass_at_another_working_size() -> None:
    assert all(finding.ok for finding in run_selftest(ChainConfig(device="cpu", size=512)))


def test_random_weights_fail_in_every_part(random_weights: Path) -> None:
    findings = run_selftest(ChainConfig(device="cpu"))
    for part in ("parser", "generator", "sam"):
        wrong = [finding for finding in of(part, findings) if not finding.ok]
        assert wrong
        assert all(finding.note.startswith(f"not repaired by {BGR}") for finding in wrong)


def assert_blames(findings: list[Finding], part: Part, mistake: str) -> None:
    """This part fails, this mistake alone is named, and all other parts pass."""
    wrong = [finding for finding in findings if not finding.ok]
    assert wrong
    assert {finding.part for finding in wrong} == {part}
    assert {finding.note for finding in wrong} == {
        f"likely cause: these weights want {mistake}, which repairs this part"
    }


def test_a_parser_of_bgr_is_found_out(prefix: FrozenPrefix, face: KnownFace) -> None:
    prefix.parser = SeesBgr()
    load_weights(prefix.parser, weights_path("parser"))
    assert_blames(examine(prefix, face).findings, "parser", BGR)


def test_a_generator_of_bgr_is_found_out(prefix: FrozenPrefix, face: KnownFace) -> None:
    prefix.generator = DrawsBgr()
    load_weights(prefix.generator, weights_path("generator"))
    assert_blames(examine(prefix, face).findings, "generator", BGR)


def test_a_sam_of_bgr_is_found_out(prefix: FrozenPrefix, face: KnownFace) -> None:
    prefix.sam = SamOfBgr(prefix.sam.sam).eval()
    assert_blames(examine(prefix, face).findings, "sam", BGR)


def test_a_bisenet_that_is_fed_rightly_passes_and_its_ranges_are_called_estimates(
    prefix: FrozenPrefix, face: KnownFace
) -> None:
    embedded = examine(prefix, face)
    prefix.parser = ActsAsBiSeNet()
    examined = examine(prefix, face)
    assert all(finding.ok for finding in examined.findings)
    assert [finding.estimated for finding in examined.findings] == [True] * 3 + [False] * 4
    assert (examined.parsing == embedded.parsing).mean() > 0.99


@pytest.mark.parametrize(
    ("mistaken", "name"),
    [
        ({"bgr": True}, BGR),
        ({"minus_one": True}, MINUS_ONE),
        ({"order": "celebamask_hq"}, "labels in the order celebamask_hq"),
        ({"order": "segface"}, "labels in the order segface"),
    ],
)
def test_what_a_bisenet_wants_is_found_out(
    mistaken: dict[str, bool | str], name: str, prefix: FrozenPrefix, face: KnownFace
) -> None:
    prefix.parser = ActsAsBiSeNet(**mistaken)  # type: ignore[arg-type]
    assert_blames(examine(prefix, face).findings, "parser", name)


def test_another_order_of_labels_may_hardly_change_the_face(prefix: FrozenPrefix, face: KnownFace) -> None:
    prefix.parser = ActsAsBiSeNet("segface")
    ok = {finding.measure: finding.ok for finding in of("parser", examine(prefix, face).findings)}
    assert ok == {FACE_SHARE.text: True, FACE_IOU.text: True, PLACES.text: False}


def test_precomputed_references_are_not_judged(prefix: FrozenPrefix, face: KnownFace, tmp_path: Path) -> None:
    prefix.generator = PrecomputedReferences(tmp_path)
    examined = examine(prefix, face)
    assert examined.reference is None
    assert all(finding.value is None and finding.ok and finding.note for finding in of("generator", examined.findings))
    assert all(finding.value is not None for finding in of("sam", examined.findings))
