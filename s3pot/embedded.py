"""The embedded models: where their weights lie, how they are written and loaded [design 7].

Weights are fp16 safetensors below `s3pot/weights/`, or in the folder that `$S3POT_WEIGHTS` names; if that is a URI,
every machine keeps what it needs [machine_cache.py]. They are derived from research-only data and carry a licence of
their own, shown once when they are first loaded; the code works without them.
"""

import json
import logging
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from s3pot.checkpoints.reading import WeightsError, fit, read_contents, sha256_of
from s3pot.locator import FaceLocator
from s3pot.machine_cache import cache_folder, cached_file
from s3pot.parsing.network import FaceParser
from s3pot.places import is_uri
from s3pot.reference.generator import ReferenceGenerator
from s3pot.reference.landmarks import LandmarkDetector
from s3pot.sam.promptable import Precision, PromptableSam
from s3pot.sam.sizes import build_sam

Part = Literal["locator", "parser", "nano_sam", "generator", "landmarks", "reweighter"]

WEIGHT_FILES: dict[str, str] = {
    "locator": "face_locator.safetensors",
    "parser": "face_parser.safetensors",
    "nano_sam": "nano_sam.safetensors",
    "generator": "reference_generator.safetensors",
    "landmarks": "face_landmarks.safetensors",
    "reweighter": "reweighter.safetensors",
    "supervised": "supervised_segmenter.safetensors",
}
"""Names of the files below the weights folder; the supervised baseline is no part of the chain and does not ship."""
_METADATA = "s3pot"
_PACKAGED = Path(__file__).parent / "weights"
# Set by a program that has shown the licence, for the processes it starts.
LICENCE_SHOWN = "S3POT_LICENCE_SHOWN"
_log = logging.getLogger(__name__)


def weights_folder() -> Path:
    """Return `$S3POT_WEIGHTS`, or the folder inside the package; of a URI the folder of this machine's copies."""
    configured = os.environ.get("S3POT_WEIGHTS")
    if configured and is_uri(configured):
        return cache_folder(configured)
    return Path(configured) if configured else _PACKAGED


def fetch_weights(name: str) -> None:
    """Bring a file of the weights folder to this machine, if the folder is a URI and holds it.

    Raises:
        WeightsError: if the URI cannot be read.
    """
    configured = os.environ.get("S3POT_WEIGHTS")
    if configured and is_uri(configured):
        _fetch(configured, name)


@cache
def _fetch(folder: str, name: str) -> None:
    try:
        cached_file(folder, name)
    except OSError as error:
        raise WeightsError(f"S3POT_WEIGHTS: {name} cannot be fetched: {error}") from error


def embedded_folder() -> Path:
    """Return the folder of the embedded models: `$S3POT_WEIGHTS`, unless it holds none of them, only checkpoints.

    Models are never mixed: a folder that holds one of them must hold all that are needed.
    """
    configured = weights_folder()
    for file in WEIGHT_FILES.values():
        fetch_weights(file)
    holds_any = any((configured / file).is_file() for file in WEIGHT_FILES.values())
    return configured if holds_any else _PACKAGED


def weights_path(part: Part) -> Path:
    """Return the file of a part, checked to exist.

    Raises:
        WeightsError: if it does not.
    """
    path = embedded_folder() / WEIGHT_FILES[part]
    if not path.is_file():
        job = "s3pot train" if part == "reweighter" else f"python ray_jobs/pretrain.py {part}"
        raise WeightsError(
            f"{path}: the embedded {part} weights are missing. Reinstall the package, or set S3POT_WEIGHTS to a folder "
            f"that holds {WEIGHT_FILES[part]}, or train it: {job} --help"
        )
    return path


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str], *, half: bool = True) -> None:
    """Write a model's tensors atomically; floating point as fp16 unless `half` is off (a head is small).

    The same tensors and metadata give the same bytes: stores know weights by their hash.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if half and tensor.dtype.is_floating_point else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    part = path.with_suffix(".part")
    # One entry: safetensors writes several in an order that changes from run to run.
    save_file(tensors, part, metadata={_METADATA: json.dumps(metadata, sort_keys=True)})
    part.chmod(0o644)  # safetensors writes files that nobody else can read: weights lie on shared disks
    os.replace(part, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Raises:
        WeightsError: if the file is unreadable or carries none.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata()
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if not metadata:
        raise WeightsError(f"{path}: carries no metadata: was it written by s3pot?")
    packed: dict[str, str] = json.loads(metadata[_METADATA]) if _METADATA in metadata else dict(metadata)
    return packed


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a safetensors file into a model of the same names and shapes; fp16 becomes the model's dtype.

    Raises:
        WeightsError: if the file is missing or unreadable or an entry is missing, unexpected or of another shape.
    """
    return fit(model, read_contents(path), path)


def load_locator(path: Path | None = None) -> FaceLocator:
    """Load the embedded face locator, frozen."""
    show_licence()
    locator = FaceLocator()
    load_weights(locator, path or weights_path("locator"))
    return locator


def load_parser(path: Path | None = None) -> FaceParser:
    """Load the embedded face parser, frozen."""
    show_licence()
    parser = FaceParser()
    load_weights(parser, path or weights_path("parser"))
    return parser


def load_generator(path: Path | None = None) -> ReferenceGenerator:
    """Load the embedded reference generator, frozen."""
    show_licence()
    generator = ReferenceGenerator()
    load_weights(generator, path or weights_path("generator"))
    return generator


def load_landmark_detector(path: Path | None = None) -> LandmarkDetector:
    """Load the embedded landmark detector, frozen; it scores references and is no part of the chain."""
    show_licence()
    detector = LandmarkDetector()
    load_weights(detector, path or weights_path("landmarks"))
    return detector


def load_nano_sam(
    path: Path | None = None, *, enhance_point_only: bool = False, precision: Precision = "fp32"
) -> PromptableSam:
    """Load the embedded nano SAM, frozen."""
    show_licence()
    sam = build_sam("nano")
    load_weights(sam, path or weights_path("nano_sam"))
    return PromptableSam(sam, enhance_point_only=enhance_point_only, precision=precision)


def file_hash(path: Path) -> str:
    """Return the first 16 hex digits of a file's SHA-256: the identity of its weights."""
    status = path.stat()
    return _hash_of_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _hash_of_version(path: Path, modified_ns: int, size: int) -> str:
    # Official checkpoints are gigabytes; a file that is trained anew has another time or size.
    return sha256_of(path)[:16]


@cache
def show_licence() -> None:
    """Say once per run what terms the embedded weights have; worker processes are told to stay silent."""
    if os.environ.get(LICENCE_SHOWN):
        return
    _log.warning(
        "S3POT embedded weights are derived from research-only data: non-commercial research use, see %s",
        _PACKAGED / "WEIGHTS_LICENSE",
    )


def device_of(name: str) -> torch.device:
    """Resolve "auto" to cuda when there is one, else cpu.

    Raises:
        ValueError: for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but PyTorch sees no CUDA device: use device=cpu or auto")
    return device
