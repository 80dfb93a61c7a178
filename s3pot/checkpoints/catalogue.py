"""Every checkpoint that the official scale can use: what it is, who publishes it, on what terms, where it is found.

No checkpoint could be had where S3POT was written: hashes and sizes are what others report, never our measurement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s3pot.checkpoints.reading import Mismatch, WeightsError, compare, state_of
from s3pot.embedded import fetch_weights, weights_folder
from s3pot.parsing.bisenet import BiSeNet
from s3pot.reference.e4s.checkpoint import entries_expected, entries_given
from s3pot.reference.e4s.model import E4S
from s3pot.sam.sizes import build_sam

CheckpointName = Literal["vit_b", "vit_l", "vit_h", "bisenet", "e4s"]
CheckpointPart = Literal["sam", "parser", "generator"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One file that a user brings.

    Attributes:
        name: what S3POT calls it.
        part: which part of the chain it is for.
        file: the name that its authors gave it.
        what: a few words.
        page: where its authors publish it.
        licence: terms in short; the page has the last word.
        url: address of the file itself; None = it must be fetched with a browser.
        size: bytes, where known.
        sha256: 64 hex digits, where known.
        hash_from: who reports it.
    """

    name: CheckpointName
    part: CheckpointPart
    file: str
    what: str
    page: str
    licence: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    hash_from: str | None = None

    @property
    def config_key(self) -> str:
        """The configuration key that takes a path to this file."""
        return f"chain.{self.part}_checkpoint"


_SAM_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything"
# The authors publish no SHA-256; the last six digits of the file names are the first ones of the MD5.
_SAM_HASHES = "micro-sam, which downloads from the same address"

CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint(
        name="vit_b",
        part="sam",
        file="sam_vit_b_01ec64.pth",
        what="SAM with a ViT-B encoder",
        page=_SAM_PAGE,
        licence="Apache-2.0",
        url=f"{_SAM_FILES}/sam_vit_b_01ec64.pth",
        size=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        hash_from=_SAM_HASHES,
    ),
    Checkpoint(
        name="vit_l",
        part="sam",
        file="sam_vit_l_0b3195.pth",
        what="SAM with a ViT-L encoder",
        page=_SAM_PAGE,
        licence="Apache-2.0",
        url=f"{_SAM_FILES}/sam_vit_l_0b3195.pth",
        size=1_249_524_607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        hash_from=_SAM_HASHES,
    ),
    Checkpoint(
        name="vit_h",
        part="sam",
        file="sam_vit_h_4b8939.pth",
        what="SAM with a ViT-H encoder, the one of the paper's release",
        page=_SAM_PAGE,
        licence="Apache-2.0",
        url=f"{_SAM_FILES}/sam_vit_h_4b8939.pth",
        size=2_564_550_879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        hash_from=_SAM_HASHES,
    ),
    Checkpoint(
        name="bisenet",
        part="parser",
        file="79999_iter.pth",
        what="BiSeNet face parser of face-parsing.PyTorch",
        page="https://github.com/zllrunning/face-parsing.PyTorch#training",
        # CelebAMask-HQ is "restricted to non-commercial research and educational purposes"; issue 47 of the repository
        # asks what that means for the weights, and has no answer.
        licence="MIT; data CelebAMask-HQ: non-commercial research",
        size=53_289_463,
        sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        hash_from="clibdev/face-parsing.PyTorch, a fork that republishes the file",
    ),
    Checkpoint(
        name="e4s",
        part="generator",
        file="iteration_300000.pt",
        what="E4S regional GAN inversion, 1024 px",
        page="https://github.com/e4s2022/e4s/blob/main/INSTALLATION.md",
        # Fine-tuned from the generator of StyleGAN2 (Nvidia Source Code License-NC) on FFHQ (CC BY-NC-SA 4.0).
        licence="MIT; StyleGAN2 and FFHQ inside: non-commercial",
    ),
)


def describe_checkpoint(name: CheckpointName) -> Checkpoint:
    """Return the entry of `CHECKPOINTS` with this name."""
    return next(entry for entry in CHECKPOINTS if entry.name == name)


def find_checkpoint(name: CheckpointName, given: Path | None = None) -> Path:
    """Find the file of a checkpoint.

    Args:
        name: which.
        given: the file, or a folder that holds it under its own name (default: the folder that `$S3POT_WEIGHTS` names,
            or the one inside the package).

    Raises:
        WeightsError: if it is not there; says what to get, from where, and how to place it.
    """
    wanted = describe_checkpoint(name)
    if given is None:
        fetch_weights(wanted.file)
    path = (given or weights_folder()).expanduser()
    path = path / wanted.file if path.is_dir() else path
    if path.is_file():
        return path
    fetch = f"`s3pot models pull {name}` fetches it" if wanted.url else "fetch it with a browser"
    raise WeightsError(
        f"{path}: no such file; the checkpoint {name} ({wanted.what}) was looked for there. Its authors publish "
        f"{wanted.file} at {wanted.page} ({fetch}). Put it into the folder that S3POT_WEIGHTS names, or say where it "
        f"is: {wanted.config_key}=PATH"
    )


def expected_entries(name: CheckpointName) -> dict[str, Tensor]:
    """Return what the file of a checkpoint must hold, as tensors on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        match name:
            case "vit_b" | "vit_l" | "vit_h":
                return dict(build_sam(name).state_dict())
            case "bisenet":
                return dict(BiSeNet().state_dict())
            case "e4s":
                return entries_expected(E4S())


def hold_against(name: CheckpointName, contents: Mapping[str, Any], source: str | Path) -> Mismatch:
    """Compare what was read from a file with a checkpoint.

    Args:
        name: the checkpoint that it may be.
        contents: of `s3pot.checkpoints.reading.read_contents`.
        source: what errors call it, such as the path.

    Raises:
        WeightsError: if it holds no plain dictionary of tensors.
    """
    given = entries_given(contents, source) if name == "e4s" else state_of(contents, source)
    return compare(expected_entries(name), given)
