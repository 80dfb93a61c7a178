"""The frozen prefix: everything before the reweighter, computed once per image [design 3].

    aligned picture -> parsing -> completed parsing -> reference
                    -> image tokens, reference tokens -> initial prompt -> enhanced tokens -> occlusion and face prompts

Frames: an aligned picture has its long side equal to the working size; parsing, reference and masks share its frame. It
is padded at the bottom and right for the networks, and tokens in padding take no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from s3pot.head.records import PromptRecord
from s3pot.matching.selector import SelectorConfig, select_prompts
from s3pot.matching.similarity import InitialPromptStrategy, face_tokens, initial_prompt, placewise_similarity
from s3pot.parsing.bisenet import BiSeNet, parse_faces_bisenet
from s3pot.parsing.classes import face_mask
from s3pot.parsing.completion import FaceCompletion, complete_parsing
from s3pot.parsing.network import PARSER_SIZE, FaceParser, parse_faces
from s3pot.reference.e4s.model import E4S
from s3pot.reference.e4s.references import generate_references_e4s
from s3pot.reference.generator import ReferenceGenerator, generate_references
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import torch_generator

Status = Literal["ok", "no_face", "no_occlusion_prompts", "no_face_prompts"]


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """What the frozen prefix does.

    Attributes:
        face_completion: how the parsing is completed before generation; `none` is the paper; not given = what suits
            the parser of the chain: `parser` for the embedded one, which parses through occluders, `hull` for bisenet.
        feature_enhancement: contrast enhanced tokens (paper) rather than image tokens; none = what suits the SAM of
            the chain: on for the official ones, as in the paper, off for nano (chosen on dev with truth; LOG.md).
        initial_prompt: which face token is p_i; the paper takes the most similar one.
        selector: how prompts are chosen.
        fresh_noise: E4S draws its noise anew for every image, rather than from its checkpoint.
        seed: of the random initial prompt and of fresh noise.
    """

    face_completion: FaceCompletion | None = None
    feature_enhancement: bool | None = None
    initial_prompt: InitialPromptStrategy = "most_similar"
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    fresh_noise: bool = False
    seed: int = 0

    @property
    def completion(self) -> FaceCompletion:
        """How parsings are completed; by itself, outside a chain, as suits the embedded parser."""
        return self.face_completion or "parser"

    @property
    def enhances(self) -> bool:
        """Whether enhanced tokens are contrasted; by itself, outside a chain, as in the paper."""
        return self.feature_enhancement is not False


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefixResult:
    """All stages of one image.

    Attributes:
        id: image id.
        status: "ok", or what is missing; an empty prompt set is a result, not an error [design 5.13].
        parsing: (H, W) uint8 completed parsing.
        face_mask: (H, W) bool, M_f.
        reference: (H, W, 3) uint8.
        image_tokens: (C, h, w) float32.
        reference_tokens: (C, h, w) float32.
        similarity: (h*w,) float32 cosine of the contrasted tokens, place by place.
        initial_prompt: id of p_i; None without a face.
        occlusion_prompts: ids, positive.
        face_prompts: ids, negative.
    """

    id: str
    status: Status
    parsing: UInt8[np.ndarray, "h w"]
    face_mask: Bool[np.ndarray, "h w"]
    reference: UInt8[np.ndarray, "h w 3"]
    image_tokens: Float[Tensor, "c th tw"]
    reference_tokens: Float[Tensor, "c th tw"]
    similarity: Float[Tensor, " t"]
    initial_prompt: int | None
    occlusion_prompts: Int64[Tensor, " o"]
    face_prompts: Int64[Tensor, " n"]

    def record(self) -> PromptRecord:
        """Return what the head needs."""
        return PromptRecord(
            id=self.id,
            image_tokens=self.image_tokens,
            occlusion_prompts=self.occlusion_prompts,
            face_prompts=self.face_prompts,
        )


class ReferenceStage:
    """Parser and reference generator: the half of the prefix that needs no SAM.

    Args:
        parser: face parser, the embedded one or BiSeNet.
        generator: the embedded reference generator, E4S, or a folder of precomputed references.
        config: what to do.
        device: where the networks are.
        size: working size, the long side of aligned pictures in pixels. Every network brings them to its own size.
    """

    def __init__(
        self,
        parser: FaceParser | BiSeNet,
        generator: ReferenceGenerator | E4S | PrecomputedReferences,
        config: PrefixConfig,
        device: torch.device,
        *,
        size: int = PARSER_SIZE,
    ) -> None:
        self.parser, self.generator, self.config, self.device, self.size = parser, generator, config, device, size

    def imagine(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[str]
    ) -> tuple[list[UInt8[np.ndarray, "_ _"]], list[UInt8[np.ndarray, "_ _ 3"]]]:
        """Return the completed parsings of aligned pictures and their references.

        Args:
            images: (H, W, 3) uint8 RGB, long side equal to the working size.
            ids: image ids.

        Raises:
            ValueError: if a picture has another size.
            ImageError: if a precomputed reference is missing or cannot be read.
        """
        _check_size(images, ids, self.size)
        with torch.no_grad():
            seen = self._parse(images)
            parsings = self._complete(seen)
            return parsings, self._generate(images, ids, seen, parsings)

    def _complete(self, seen: Sequence[np.ndarray]) -> list[UInt8[np.ndarray, "_ _"]]:
        return [complete_parsing(row, self.config.completion) for row in seen]

    def _parse(self, images: Sequence[np.ndarray]) -> list[UInt8[np.ndarray, "_ _"]]:
        pixels = _pixels(images, self.size, self.device)
        if isinstance(self.parser, BiSeNet):
            return _cropped(parse_faces_bisenet(self.parser, pixels), images)
        return _cropped(parse_faces(self.parser, pixels), images)

    def _generate(
        self,
        images: Sequence[np.ndarray],
        ids: Sequence[str],
        seen: Sequence[np.ndarray],
        completed: Sequence[np.ndarray],
    ) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        generator = self.generator
        if isinstance(generator, PrecomputedReferences):
            return [generator.read(name, image.shape[:2]) for name, image in zip(ids, images, strict=True)]
        pixels, target = _pixels(images, self.size, self.device), _stacked(completed, self.size, self.device)
        if not isinstance(generator, E4S):
            return _cropped(generate_references(generator, pixels, target), images)
        valid = _stacked([np.ones(image.shape[:2], dtype=bool) for image in images], self.size, self.device)
        noise = None
        if self.config.fresh_noise:
            noise = [torch_generator(self.config.seed, "fresh_noise", image_id, self.device) for image_id in ids]
        drawn = generate_references_e4s(generator, pixels, _stacked(seen, self.size, self.device), target, valid, noise)
        return _cropped(drawn, images)


class FrozenPrefix(ReferenceStage):
    """Parser, reference generator and SAM, run as one batch.

    Args:
        parser: face parser, the embedded one or BiSeNet.
        generator: the embedded reference generator, E4S, or a folder of precomputed references.
        sam: promptable SAM, on the same device.
        config: what to do.
        size: working size, the long side of aligned pictures in pixels. Every network brings them to its own size.
    """

    def __init__(
        self,
        parser: FaceParser | BiSeNet,
        generator: ReferenceGenerator | E4S | PrecomputedReferences,
        sam: PromptableSam,
        config: PrefixConfig,
        *,
        size: int = PARSER_SIZE,
    ) -> None:
        super().__init__(parser, generator, config, sam.device, size=size)
        self.sam = sam

    def run(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        ids: Sequence[str],
        *,
        parsings: Sequence[UInt8[np.ndarray, "_ _"]] | None = None,
        references: Sequence[UInt8[np.ndarray, "_ _ 3"]] | None = None,
    ) -> list[PrefixResult]:
        """Run the prefix over aligned pictures.

        Args:
            images: (H, W, 3) uint8 RGB, long side equal to the working size.
            ids: image ids.
            parsings: completed parsings to use instead of the parser's (a label, an oracle).
            references: references to use instead of the generator's (precomputed, or the clean image as an oracle).

        Raises:
            ValueError: if a picture has another size, or a parsing or reference that of another picture.
            ImageError: if a precomputed reference is missing or cannot be read.
        """
        _check_size(images, ids, self.size)
        with torch.no_grad():
            seen = self._parse(images) if parsings is None else parsings
            _check_frames("parsing", seen, images, ids)
            if parsings is None:
                parsings = self._complete(seen)
            if references is None:
                references = self._generate(images, ids, seen, parsings)
            return contrast(self.sam, self.config, images, ids, parsings, references)


@torch.no_grad()
def contrast(
    sam: PromptableSam,
    config: PrefixConfig,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    ids: Sequence[str],
    parsings: Sequence[UInt8[np.ndarray, "_ _"]],
    references: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[PrefixResult]:
    """Encode aligned pictures and their references and draw the prompts: the half of the prefix that needs only SAM.

    Args:
        sam: promptable SAM.
        config: what to do.
        images: (H, W, 3) uint8 RGB of one long side.
        ids: image ids.
        parsings: completed parsings.
        references: references.

    Raises:
        ValueError: if a parsing or reference lies over another picture.
    """
    _check_frames("parsing", parsings, images, ids)
    _check_frames("reference", references, images, ids)
    size = max(images[0].shape[:2])
    image_tokens, valid = sam.encode(images)
    reference_tokens, _ = sam.encode(references)
    masks = [face_mask(parsing) for parsing in parsings]
    in_face = face_tokens(_stacked(masks, size, sam.device), sam.token_grid) & valid
    raw = placewise_similarity(image_tokens, reference_tokens, valid)
    initial = [
        initial_prompt(
            raw[row],
            in_face[row],
            valid[row],
            config.initial_prompt,
            torch_generator(config.seed, "initial_prompt", image_id),
        )
        for row, image_id in enumerate(ids)
    ]
    pair = (image_tokens, reference_tokens)
    if config.enhances:
        points = torch.tensor([point or 0 for point in initial], device=image_tokens.device)
        pair = (sam.enhance(image_tokens, points), sam.enhance(reference_tokens, points))
    similarity = placewise_similarity(*pair, valid)
    selected = select_prompts(*pair, in_face, valid, config.selector)
    return [
        PrefixResult(
            id=image_id,
            status=_status(initial[row], prompts.occlusion_prompts, prompts.face_prompts),
            parsing=parsings[row],
            face_mask=masks[row],
            reference=references[row],
            image_tokens=image_tokens[row].cpu(),
            reference_tokens=reference_tokens[row].cpu(),
            similarity=similarity[row].cpu(),
            initial_prompt=initial[row],
            occlusion_prompts=prompts.occlusion_prompts.cpu(),
            face_prompts=prompts.face_prompts.cpu(),
        )
        for row, (image_id, prompts) in enumerate(zip(ids, selected, strict=True))
    ]


def _pixels(images: Sequence[np.ndarray], size: int, device: torch.device) -> Float[Tensor, "b 3 s s"]:
    # The layout of a picture in memory picks the convolution kernels, and their rounding: always the same one.
    stacked = np.ascontiguousarray(np.stack([_pad(image, size) for image in images]))
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(device).float() / 255.0


def _stacked(arrays: Sequence[np.ndarray], size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack([_pad(array, size) for array in arrays])).to(device)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    missing = [(0, size - array.shape[0]), (0, size - array.shape[1])]
    return np.pad(array, missing + [(0, 0)] * (array.ndim - 2)) if any(map(any, missing)) else array


def _cropped(batch: Tensor, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Take the padding off again."""
    return [
        np.ascontiguousarray(row[: image.shape[0], : image.shape[1]])
        for row, image in zip(batch.cpu().numpy(), images, strict=True)
    ]


def _check_size(images: Sequence[np.ndarray], ids: Sequence[str], size: int) -> None:
    for image, image_id in zip(images, ids, strict=True):
        if max(image.shape[:2]) != size:
            raise ValueError(f"{image_id}: an aligned picture has a long side of {size}, got {image.shape}")


def _check_frames(what: str, given: Sequence[np.ndarray], images: Sequence[np.ndarray], ids: Sequence[str]) -> None:
    """Refuse what does not lie over its picture pixel for pixel: other places would be compared without a word."""
    for array, image, image_id in zip(given, images, ids, strict=True):
        if array.shape[:2] != image.shape[:2]:
            raise ValueError(f"{image_id}: the {what} is {array.shape[:2]}, the aligned picture {image.shape[:2]}")


def _status(initial: int | None, occlusion: Tensor, face: Tensor) -> Status:
    if initial is None:
        return "no_face"
    if occlusion.numel() == 0:
        return "no_occlusion_prompts"
    return "ok" if face.numel() else "no_face_prompts"
