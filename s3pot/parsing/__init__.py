"""Face parsing: the 12 classes, the embedded parser network and the completion of parsings [S3POT 3.1, 3.3]."""

from s3pot.parsing.classes import CLASSES, FACE_CLASSES, celebamask_to_12, face_mask

__all__ = ["CLASSES", "FACE_CLASSES", "celebamask_to_12", "face_mask"]
