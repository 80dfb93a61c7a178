"""A trained head's file: its tensors, how it is built, which frozen prefix it is for, when it keeps silent.

The prefix is written as a description, not only as a hash, so that a refusal can say what differs [design 3].
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import parse
from s3pot.embedded import load_weights, read_metadata, save_weights
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig

ABSTAIN_BELOW = "abstain_below"
"""Name of the threshold in the metadata."""
_FORM, _PREFIX = "reweighter", "prefix"
_log = logging.getLogger(__name__)


def save_head(reweighter: PromptReweighter, path: Path, chain: ChainConfig, metadata: Mapping[str, str]) -> None:
    """Write a head with all that `load_reweighter` needs, atomically and in fp32.

    Args:
        reweighter: the trained head.
        path: safetensors file.
        chain: whose prompts and tokens it was trained on.
        metadata: anything else worth knowing.
    """
    described = {_FORM: json.dumps(asdict(reweighter.config)), _PREFIX: json.dumps(prefix_description(chain))}
    save_weights(reweighter, path, dict(metadata) | described, half=False)


def load_reweighter(
    path: Path, device: torch.device | str = "cpu", *, chain: ChainConfig | None = None
) -> PromptReweighter:
    """Load a trained reweighter; its file says how it is built.

    Args:
        path: file of `save_head`.
        device: where to.
        chain: what it is going to be used with; None = not used, only looked at.

    Raises:
        WeightsError: if it is missing, unreadable, no reweighter, does not fit, or is for another frozen prefix.
    """
    reweighter = PromptReweighter(read_reweighter_config(path))
    if chain is not None:
        check_prefix(path, chain)
    load_weights(reweighter, path)
    return reweighter.to(device)


def read_reweighter_config(path: Path) -> ReweighterConfig:
    """Read the form of a stored reweighter from the metadata of its file.

    Raises:
        WeightsError: if the file is no reweighter.
    """
    described = read_metadata(path).get(_FORM)
    if described is None:
        raise WeightsError(f"{path}: holds no reweighter (its metadata does not say how one is built)")
    return parse(ReweighterConfig, json.loads(described), where=str(path))


def read_prefix(path: Path) -> dict[str, str] | None:
    """Read the `prefix_description` that a head was trained for; None where its file says nothing of one.

    Raises:
        WeightsError: if the file is unreadable.
    """
    described = read_metadata(path).get(_PREFIX)
    return None if described is None else dict(json.loads(described))


def check_prefix(path: Path, chain: ChainConfig) -> None:
    """Refuse a head that was trained for another frozen prefix: its prompts and tokens mean nothing to it.

    A head of an older s3pot does not say what it was trained for; it passes with a warning.

    Raises:
        WeightsError: with both identities, what differs, and what to do.
    """
    trained_for, given = read_prefix(path), prefix_description(chain)
    if trained_for is None:
        _log.warning("%s does not say which frozen prefix it was trained for: nothing checks that it fits", path)
        return
    if trained_for == given:
        return
    differences = ", ".join(
        f"{name} {trained_for.get(name, 'unknown')} there and {given.get(name, 'unknown')} here"
        for name in sorted(trained_for.keys() | given.keys())
        if trained_for.get(name) != given.get(name)
    )
    raise WeightsError(
        f"{path}: trained for another frozen prefix (identity {prefix_identity(trained_for)}, here "
        f"{prefix_identity(given)}; {differences}): train a head on a store of this chain (s3pot train store=...), or "
        "use the chain and weights it was trained for ($S3POT_WEIGHTS says where those lie)"
    )


def read_abstention_threshold(path: Path) -> float:
    """Read the image-level score below which this head's results are withheld; -inf if none was chosen for it.

    Raises:
        WeightsError: if the file is unreadable or the entry is no number.
    """
    written = read_metadata(path).get(ABSTAIN_BELOW, "-inf")
    try:
        return float(written)
    except ValueError as error:
        raise WeightsError(f"{path}: its {ABSTAIN_BELOW} is no number: {written!r}") from error
