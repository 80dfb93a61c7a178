"""E4S: the reference generator of the official scale [S3POT 3.1]."""

from s3pot.reference.e4s.checkpoint import e4s_from_checkpoint
from s3pot.reference.e4s.model import E4S, E4SConfig

__all__ = ["E4S", "E4SConfig", "e4s_from_checkpoint"]
