"""Composites: occluders laid over clean faces, with exact truth [design 5.11, 6]."""

from s3pot.composite.compositor import Composite, compose, compose_covering, compose_decoy, unoccluded
from s3pot.composite.cutouts import Cutout, list_cutouts, load_cutout

__all__ = [
    "Composite",
    "Cutout",
    "compose",
    "compose_covering",
    "compose_decoy",
    "list_cutouts",
    "load_cutout",
    "unoccluded",
]
