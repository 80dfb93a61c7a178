"""Reference generation: the face as it would look without its occluder [S3POT 3.1]."""

from s3pot.reference.generator import ReferenceGenerator, generate_references, one_hot_parsing

__all__ = ["ReferenceGenerator", "generate_references", "one_hot_parsing"]
