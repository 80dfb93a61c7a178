"""S3POT: find what covers a face, without occlusion labels.

A reference of the face without its occluder is generated, SAM features of the two are contrasted, the contrast becomes
point prompts, a small head learns to reweight them from three self-supervised objectives, and SAM's decoder draws the
mask.
"""

from s3pot.chain import ChainConfig
from s3pot.segmenter import OcclusionSegmenter, SegmentationResult

__version__ = "0.1.0"
__all__ = ["ChainConfig", "OcclusionSegmenter", "SegmentationResult", "__version__"]
