"""Which frozen prefix a head was trained for: what decides the prompts and tokens that it sees [design 3].

Wider than the identity of a store, which keeps results of one chain apart: a head goes on working where faces are
cropped in another way.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from s3pot.chain import ChainConfig, model_files
from s3pot.embedded import file_hash


def prefix_description(config: ChainConfig) -> dict[str, str]:
    """Say what of the frozen prefix decides the prompts and tokens that a head learns from.

    Models, the content of their weights, and what is done with them count. How a face is cropped, the working size, the
    device, the precision, the folder of precomputed references and seeds do not: a head goes on working across those.

    Returns:
        By name, such as `selector.kind` or `weights.sam`, each value as text.
    """
    settings = config.prefix.counted()
    del settings["seed"]
    counted = {name: getattr(config, name) for name in ("sam", "enhance_point_only", "parser", "generator")}
    weights = {part: file_hash(path) for part, path in model_files(config).items()}
    return {name: str(value) for name, value in _flat(counted | settings | {"weights": weights})}


def prefix_identity(description: Mapping[str, str]) -> str:
    """Hash a `prefix_description`; 16 hex digits."""
    return hashlib.sha256(json.dumps(dict(description), sort_keys=True).encode()).hexdigest()[:16]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
