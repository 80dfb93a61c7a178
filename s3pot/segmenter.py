"""`OcclusionSegmenter`: photograph in, occlusion mask and every stage out. The one object a notebook needs.

from s3pot import OcclusionSegmenter
segmenter = OcclusionSegmenter.load()
result = segmenter.predict("photo.jpg")
result.occlusion        # (H, W) bool in the frame of the photograph, True = occluded
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import nn

from s3pot.alignment import AlignedFace, FaceAligner, to_original_frame
from s3pot.chain import ChainConfig, load_aligner, load_prefix, load_reweighter, read_abstention_threshold
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import weights_path
from s3pot.images import read_image
from s3pot.prediction import predict_occlusion
from s3pot.prefix import FrozenPrefix, PrefixResult


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationResult:
    """What was found in one photograph, and every stage on the way.

    Attributes:
        occlusion: (H, W) bool, original frame, inside the face; all False where nothing was found or `abstained`.
        probability: (H, W) float32 in [0, 1], original frame, not clipped to the face.
        face_mask: (H, W) bool, original frame, the completed face.
        score: image-level occlusion score in [0, 1]: share of the face that is occluded, weighted by probability.
        status: "ok", "no_face", "no_occlusion_prompts" or "no_face_prompts".
        abstained: whether something was found, but with a score below the threshold of the head: most likely a clean
            face. `probability` still says what was found.
        aligned: (h, w, 3) uint8 face crop; None without a face, like all that follow.
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
    parsing: UInt8[np.ndarray, "h w"] | None = None
    reference: UInt8[np.ndarray, "h w 3"] | None = None
    similarity: Float32[np.ndarray, "rows cols"] | None = None
    occlusion_prompts: Int64[np.ndarray, " o"] | None = None
    face_prompts: Int64[np.ndarray, " n"] | None = None


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
        reweighter: nn.Module | None,
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
        threshold = read_abstention_threshold(head) if abstain else -math.inf
        return cls(prefix, reweighter, load_aligner(config), abstain_below=threshold)

    def predict(self, image: UInt8[np.ndarray, "h w 3"] | Path | str) -> SegmentationResult:
        """Segment what covers the largest face.

        Args:
            image: (H, W, 3) uint8 RGB, or a file.

        Raises:
            ImageError: if the file is no readable image.
            ValueError: for an array of another shape or dtype.
        """
        name = "image" if isinstance(image, np.ndarray) else str(image)
        pixels = image if isinstance(image, np.ndarray) else read_image(Path(image))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"expected an (H, W, 3) uint8 RGB picture, got {pixels.shape} {pixels.dtype}")
        face = self.aligner.align(pixels, self.prefix.size)
        if face is None:
            return _nothing("no_face", pixels.shape[:2])
        stages = self.prefix.run([face.image], [name])[0]
        return self._decode(stages, face, pixels.shape[:2])

    def _decode(self, stages: PrefixResult, face: AlignedFace, size: tuple[int, int]) -> SegmentationResult:
        sam = self.prefix.sam
        prediction = predict_occlusion(sam, self.reweighter, [stages.record()], [stages.face_mask])[0]
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
            parsing=stages.parsing,
            reference=stages.reference,
            similarity=stages.similarity.numpy().reshape(sam.token_grid),
            occlusion_prompts=stages.occlusion_prompts.numpy(),
            face_prompts=stages.face_prompts.numpy(),
        )


def _nothing(status: str, size: tuple[int, int]) -> SegmentationResult:
    empty = np.zeros(size, dtype=np.float32)
    nowhere = empty > 0
    return SegmentationResult(occlusion=nowhere, probability=empty, face_mask=nowhere, score=0.0, status=status)
