"""`OcclusionSegmenter`: photograph in, occlusion mask and every stage out. The one object a notebook needs.

from s3pot import OcclusionSegmenter
segmenter = OcclusionSegmenter.load()
result = segmenter.predict("photo.jpg")
result.occlusion        # (H, W) bool in the frame of the photograph, True = occluded
segmenter.predict_all("group.jpg")      # one result per face, the most prominent first
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from s3pot.alignment import AlignedFace, FaceAligner, crop_corners, id_of_face, to_original_frame
from s3pot.chain import ChainConfig, load_aligner, load_prefix
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import weights_path
from s3pot.head.head_file import check_prefix, load_reweighter, read_abstention_threshold
from s3pot.head.reweighter import PromptReweighter
from s3pot.images import read_image
from s3pot.prediction import OcclusionPrediction, predict_occlusion
from s3pot.prefix import FrozenPrefix, PrefixResult

_log = logging.getLogger("s3pot.segmenter")

# A photograph of a crowd must not need more memory than a batch of `s3pot encode`.
_FACES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationResult:
    """What was found on one face of a photograph, and every stage on the way.

    Attributes:
        occlusion: (H, W) bool, original frame, inside the face; all False where nothing was found or `abstained`.
        probability: (H, W) float32 in [0, 1], original frame, not clipped to the face.
        face_mask: (H, W) bool, original frame, the completed face.
        score: image-level occlusion score in [0, 1]: share of the face that is occluded, weighted by probability.
        status: "ok", "no_face", "no_occlusion_prompts" or "no_face_prompts".
        abstained: whether something was found, but with a score below the threshold of the head: most likely a clean
            face. `probability` still says what was found.
        aligned: (h, w, 3) uint8 face crop; None without a face, like all that follow.
        to_original: (2, 3) affine map from pixels (x, y) of the crop to pixels of the photograph; with
            `s3pot.alignment.to_original_frame` it brings any stage back.
        parsing: (h, w) uint8, 12 classes, aligned frame.
        reference: (h, w, 3) uint8, aligned frame.
        similarity: (rows, cols) float32 cosine on the token grid.
        occlusion_prompts: token ids, row * cols + col.
        face_prompts: token ids.
    """

    occlusion: Bool[np.ndarray, "height width"]
    probability: Float32[np.ndarray, "height width"]
    face_mask: Bool[np.ndarray, "height width"]
    score: float
    status: str
    abstained: bool = False
    aligned: UInt8[np.ndarray, "h w 3"] | None = None
    to_original: Float64[np.ndarray, "2 3"] | None = None
    parsing: UInt8[np.ndarray, "h w"] | None = None
    reference: UInt8[np.ndarray, "h w 3"] | None = None
    similarity: Float32[np.ndarray, "rows cols"] | None = None
    occlusion_prompts: Int64[np.ndarray, " o"] | None = None
    face_prompts: Int64[np.ndarray, " n"] | None = None

    @property
    def crop_corners(self) -> Float64[np.ndarray, "4 2"] | None:
        """Where the face crop lies: (4, 2) corners (x, y) in the photograph, clockwise from the crop's upper left."""
        if self.aligned is None or self.to_original is None:
            return None
        return crop_corners(self.to_original, (self.aligned.shape[0], self.aligned.shape[1]))


class SeenFace(NamedTuple):
    """What the models say of one face, in its aligned frame."""

    stages: PrefixResult
    prediction: OcclusionPrediction


class OcclusionSegmenter:
    """The whole chain for one photograph at a time.

    Args:
        prefix: frozen prefix.
        reweighter: trained head; None decodes the prompts as they are.
        aligner: crops the face of a photograph.
        abstain_below: image-level score below which nothing is marked [design 5.12]; -inf always marks.
    """

    def __init__(
        self,
        prefix: FrozenPrefix,
        reweighter: PromptReweighter | None,
        aligner: FaceAligner,
        *,
        abstain_below: float = -math.inf,
    ) -> None:
        self.prefix, self.reweighter, self.aligner = prefix, reweighter, aligner
        self.abstain_below = abstain_below

    @classmethod
    def load(
        cls, config: ChainConfig | None = None, *, head: Path | None = None, abstain: bool = True
    ) -> "OcclusionSegmenter":
        """Load the models; without arguments the embedded ones, which need no download.

        Args:
            config: models and stages; None = embedded nano chain.
            head: a trained reweighter; None = the embedded one for the nano SAM.
            abstain: keep silent on faces that score below the threshold that came with the head.

        Raises:
            WeightsError: if weights are missing or do not fit.
            ValueError: if a SAM other than nano comes without a head.
        """
        config = config or ChainConfig()
        if head is None:
            if config.sam != "nano":
                raise ValueError(f"there is no embedded head for {config.sam}: train one and pass head=...")
            head = weights_path("reweighter")
        prefix = load_prefix(config)
        reweighter = load_reweighter(head, prefix.sam.device)
        if reweighter.config.embed_dim != prefix.sam.embed_dim:
            raise WeightsError(
                f"{head}: made for prompts of width {reweighter.config.embed_dim}, those of SAM {config.sam} have "
                f"{prefix.sam.embed_dim}: train a head for {config.sam}"
            )
        check_prefix(head, config)
        threshold = read_abstention_threshold(head) if abstain else -math.inf
        return cls(prefix, reweighter, load_aligner(config), abstain_below=threshold)

    def predict(
        self, image: UInt8[np.ndarray, "h w 3"] | Path | str, *, image_id: str | None = None
    ) -> SegmentationResult:
        """Segment what covers the most prominent face.

        Args:
            image: (H, W, 3) uint8 RGB, or a file.
            image_id: what a landmark file or a folder of precomputed references calls the image; None = the name of
                the file, without its folders.

        Raises:
            ImageError: if the file is no readable image, or its precomputed reference cannot be used.
            ValueError: for an array of another shape or dtype, or without an id where landmarks come from a file.
            LandmarkError: if the landmarks of this image lie outside it.
        """
        pixels, image_id = _read(image, image_id)
        face = self.aligner.align(pixels, self.prefix.size, image_id)
        if face is None:
            self._say_if_unknown(image_id)
            return _nothing("no_face", pixels.shape[:2])
        return self._segment([face], _names(image_id, 1), [pixels.shape[:2]])[0]

    def predict_all(
        self, image: UInt8[np.ndarray, "h w 3"] | Path | str, *, image_id: str | None = None
    ) -> list[SegmentationResult]:
        """Segment what covers each face.

        Args:
            image: (H, W, 3) uint8 RGB, or a file.
            image_id: as of `predict`.

        Returns:
            One result per face, the most prominent first; none without a face. Each holds masks of the whole
            photograph.

        Raises:
            ImageError, ValueError, LandmarkError: as `predict`.
        """
        pixels, image_id = _read(image, image_id)
        faces = self._locate_all(pixels, image_id)
        return self._segment(faces, _names(image_id, len(faces)), [pixels.shape[:2]] * len(faces))

    def predict_batch(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[str] | None = None
    ) -> list[list[SegmentationResult]]:
        """Segment what covers each face of several photographs, whose faces run through the models together.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            ids: as `image_id` of `predict`, one per image.

        Returns:
            What `predict_all` gives for each image, up to the rounding of another batch size [design 5.3].

        Raises:
            ImageError, ValueError, LandmarkError: as `predict`.
        """
        given: Sequence[str | None] = ids or [None] * len(images)
        read = [_read(image, name) for image, name in zip(images, given, strict=True)]
        found = [self._locate_all(pixels, name) for pixels, name in read]
        faces = [face for of_image in found for face in of_image]
        names = [name for (_, name), some in zip(read, found, strict=True) for name in _names(name, len(some))]
        sizes = [pixels.shape[:2] for (pixels, _), some in zip(read, found, strict=True) for _ in some]
        results = iter(self._segment(faces, names, sizes))
        return [[next(results) for _ in of_image] for of_image in found]

    def _locate_all(self, pixels: np.ndarray, image_id: str | None) -> list[AlignedFace]:
        faces = self.aligner.align_all(pixels, self.prefix.size, image_id)
        if not faces:
            self._say_if_unknown(image_id)
        return faces

    def _say_if_unknown(self, image_id: str | None) -> None:
        if self.aligner.landmarks is not None:
            _log.warning("%s: no row for the image %r", self.aligner.landmarks.path, image_id)

    def _segment(
        self, faces: Sequence[AlignedFace], names: Sequence[str], sizes: Sequence[tuple[int, int]]
    ) -> list[SegmentationResult]:
        results = []
        for first in range(0, len(faces), _FACES_AT_ONCE):
            part = slice(first, first + _FACES_AT_ONCE)
            seen = self.see(faces[part], names[part])
            results += [self.place(*one) for one in zip(seen, faces[part], sizes[part], strict=True)]
        return results

    def see(self, faces: Sequence[AlignedFace], names: Sequence[str]) -> list[SeenFace]:
        """Run the models over aligned faces, all in one batch.

        Args:
            faces: of `FaceAligner`, at the working size.
            names: their ids.

        Raises:
            ImageError: if a precomputed reference cannot be used.
        """
        stages = self.prefix.run([face.image for face in faces], names)
        predictions = predict_occlusion(
            self.prefix.sam,
            self.reweighter,
            [stage.record() for stage in stages],
            [stage.face_mask for stage in stages],
        )
        return [SeenFace(*one) for one in zip(stages, predictions, strict=True)]

    def place(self, seen: SeenFace, face: AlignedFace, size: tuple[int, int]) -> SegmentationResult:
        """Bring what was seen of a face back into its photograph, and abstain if it is too little.

        Args:
            seen: of `see`.
            face: its crop.
            size: (height, width) of the photograph.
        """
        stages, prediction = seen
        inside = to_original_frame(stages.face_mask.astype(np.float32), face.to_original, size) > 0.5
        abstained = 0.0 < prediction.score < self.abstain_below
        probability = to_original_frame(prediction.probability, face.to_original, size)
        return SegmentationResult(
            occlusion=(probability > 0.5) & inside & (not abstained),
            probability=probability,
            face_mask=inside,
            score=prediction.score,
            status=stages.status,
            abstained=abstained,
            aligned=face.image,
            to_original=face.to_original,
            parsing=stages.parsing,
            reference=stages.reference,
            similarity=stages.similarity.numpy().reshape(self.prefix.sam.token_grid),
            occlusion_prompts=stages.occlusion_prompts.numpy(),
            face_prompts=stages.face_prompts.numpy(),
        )


def _names(image_id: str | None, faces: int) -> list[str]:
    return [id_of_face(image_id or "image", number) for number in range(1, faces + 1)]


def _read(image: np.ndarray | Path | str, image_id: str | None) -> tuple[UInt8[np.ndarray, "h w 3"], str | None]:
    """Return the pixels, and the id: that of a file is its name."""
    if not isinstance(image, np.ndarray):
        return read_image(image), image_id or Path(image).name
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 RGB picture, got {image.shape} {image.dtype}")
    return image, image_id


def _nothing(status: str, size: tuple[int, int]) -> SegmentationResult:
    empty = np.zeros(size, dtype=np.float32)
    nowhere = empty > 0
    return SegmentationResult(occlusion=nowhere, probability=empty, face_mask=nowhere, score=0.0, status=status)
