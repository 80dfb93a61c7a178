"""Which models the chain is built from, and what identifies its results."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from s3pot.alignment import AlignmentMode, FaceAligner
from s3pot.checkpoints.reading import WeightsError, fit, read_contents, state_of
from s3pot.config import parse, to_mapping
from s3pot.embedded import (
    device_of,
    file_hash,
    load_generator,
    load_locator,
    load_nano_sam,
    load_parser,
    load_weights,
    read_metadata,
    weights_path,
)
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.prefix import FrozenPrefix, PrefixConfig
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import SamName, build_sam

ABSTAIN_BELOW = "abstain_below"
"""Name of the threshold in the metadata of a head's file."""


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """Models and frozen stages.

    Attributes:
        sam: SAM size; `nano` is embedded, the others need `sam_checkpoint`.
        sam_checkpoint: official checkpoint of segment-anything for vit_b, vit_l or vit_h; none for nano.
        enhance_point_only: leave IoU and mask tokens out of the feature enhancement (an ablation).
        alignment: `detect` finds the face in a photograph (embedded locator), `none` takes pictures as aligned faces.
        device: auto, cpu, cuda or cuda:N.
        prefix: what the frozen prefix does.
    """

    sam: SamName = "nano"
    sam_checkpoint: Path | None = None
    enhance_point_only: bool = False
    alignment: AlignmentMode = "detect"
    device: str = "auto"
    prefix: PrefixConfig = field(default_factory=PrefixConfig)

    def __post_init__(self) -> None:
        """Check that a checkpoint is named exactly when one is needed, and settle what depends on the SAM."""
        if self.sam != "nano" and self.sam_checkpoint is None:
            raise ValueError(f"sam_checkpoint must name the official checkpoint of {self.sam}, got none")
        if self.sam == "nano" and self.sam_checkpoint is not None:
            raise ValueError("sam_checkpoint is for vit_b, vit_l and vit_h; the nano SAM is embedded")
        if self.prefix.feature_enhancement is None:
            # Written down rather than looked up later: runs and stores say what they did.
            settled = replace(self.prefix, feature_enhancement=self.sam != "nano")
            object.__setattr__(self, "prefix", settled)


def load_sam(config: ChainConfig) -> PromptableSam:
    """Load the configured SAM, frozen, on the configured device.

    Raises:
        WeightsError: if weights are missing, unreadable or of another size.
    """
    if config.sam_checkpoint is None:
        sam = load_nano_sam(enhance_point_only=config.enhance_point_only)
    else:
        stock = build_sam(config.sam)
        fit(stock, state_of(read_contents(config.sam_checkpoint), config.sam_checkpoint), config.sam_checkpoint)
        sam = PromptableSam(stock, enhance_point_only=config.enhance_point_only)
    return sam.to(device_of(config.device)).eval()


def load_prefix(config: ChainConfig) -> FrozenPrefix:
    """Load parser, generator and SAM and assemble the frozen prefix."""
    device = device_of(config.device)
    return FrozenPrefix(load_parser().to(device), load_generator().to(device), load_sam(config), config.prefix)


def load_aligner(config: ChainConfig) -> FaceAligner:
    """Build what crops faces; the face locator is only loaded where it is needed.

    Raises:
        WeightsError: if its weights are missing, unreadable or of another network.
    """
    if config.alignment == "none":
        return FaceAligner("none")
    return FaceAligner(config.alignment, load_locator().to(device_of(config.device)))


def load_reweighter(path: Path, device: torch.device | str = "cpu") -> PromptReweighter:
    """Load a trained reweighter written by `save_weights`; its file says how it is built.

    Raises:
        WeightsError: if it is missing, unreadable, no reweighter, or does not fit.
    """
    config = read_reweighter_config(path)
    reweighter = PromptReweighter(config)
    load_weights(reweighter, path)
    return reweighter.to(device)


def read_reweighter_config(path: Path) -> ReweighterConfig:
    """Read the form of a stored reweighter from the metadata of its file.

    Raises:
        WeightsError: if the file is no reweighter.
    """
    described = read_metadata(path).get("reweighter")
    if described is None:
        raise WeightsError(f"{path}: holds no reweighter (its metadata does not say how one is built)")
    return parse(ReweighterConfig, json.loads(described), where=str(path))


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


def chain_identity(config: ChainConfig) -> str:
    """Hash what decides the frozen prefix's output: its configuration and the content of the weights.

    The device does not count, nor where the checkpoint lies.
    """
    mapping = to_mapping(config)
    del mapping["device"], mapping["sam_checkpoint"]
    used = [weights_path("parser"), weights_path("generator"), config.sam_checkpoint or weights_path("nano_sam")]
    if config.alignment == "detect":
        used.append(weights_path("locator"))
    mapping["weights"] = [file_hash(path) for path in used]
    return hashlib.sha256(json.dumps(mapping, sort_keys=True, default=str).encode()).hexdigest()[:16]
