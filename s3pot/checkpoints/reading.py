"""Read weights from a file and hold them against a network: names and shapes must be the same, nothing is guessed.

Only tensors are read: PyTorch files with `weights_only=True`, safetensors hold nothing else. What checkpoints wrap
their weights in is taken off: an outer `state_dict` and the `module.` that data-parallel training leaves before names.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

STATE = "state_dict"
_PREFIX = "module."
_MOST_NAMED = 3


class WeightsError(RuntimeError):
    """Weights are missing or do not fit the model; the message names the file and the fix."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """How weights differ from what a network expects; all names are sorted.

    Attributes:
        missing: names that the network has and the file lacks.
        unexpected: names that only the file has.
        misshaped: name, expected shape and shape in the file.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        """Say whether anything differs."""
        return bool(self.missing or self.unexpected or self.misshaped)

    def summary(self) -> str:
        """Count what differs and name the first of each kind."""
        shapes = [f"{name}: expected {wanted}, got {given}" for name, wanted, given in self.misshaped]
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        return "; ".join(
            f"{len(names)} {what} ({', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else ''})"
            for what, names in parts
            if names
        )


def read_contents(path: Path) -> dict[str, Any]:
    """Read what lies in a checkpoint, unchanged; of PyTorch files only tensors and plain containers are unpickled.

    Tensors may be mapped from the file rather than read: who keeps them must copy them.

    Raises:
        WeightsError: if the file is missing, unreadable, holds code, or is no dictionary.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint; `s3pot models list` tells where each can be had")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}
        # Training leaves more in a checkpoint than a network needs, and `check` looks at names and shapes only. PyTorch
        # files from before 2020 are no archives and cannot be mapped: BiSeNet is one.
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # garbage leads an unpickler to errors of every kind
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: not a readable checkpoint of tensors ({first})") from error
    if not isinstance(contents, dict):
        raise WeightsError(f"{path}: holds a {type(contents).__name__}, not a dictionary of weights")
    return contents


def state_of(contents: Mapping[str, Any], source: str | Path) -> dict[str, Tensor]:
    """Take the weights out of what a checkpoint wraps them in.

    Args:
        contents: of `read_contents`.
        source: what errors call them, such as the path.

    Raises:
        WeightsError: if they are no plain dictionary of tensors.
    """
    state = contents.get(STATE, contents)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{source}: not a plain state dict of tensors, nor one under `{STATE}`")
    if state and all(name.startswith(_PREFIX) for name in state):
        return {name.removeprefix(_PREFIX): value for name, value in state.items()}
    return dict(state)


def compare(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Mismatch:
    """Hold names and shapes of weights against those of a network (whose tensors may be on the meta device)."""
    shapes = ((name, tuple(expected[name].shape), tuple(given[name].shape)) for name in sorted(expected.keys() & given))
    return Mismatch(
        missing=tuple(sorted(expected.keys() - given.keys())),
        unexpected=tuple(sorted(given.keys() - expected.keys())),
        misshaped=tuple(entry for entry in shapes if entry[1] != entry[2]),
    )


def fit(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> nn.Module:
    """Put weights into a network of the same names and shapes, and freeze it in eval mode; dtypes stay the network's.

    Raises:
        WeightsError: if an entry is missing, unexpected or of another shape.
    """
    if mismatch := compare(model.state_dict(), state):
        raise WeightsError(f"{source}: does not fit {type(model).__name__}: {mismatch.summary()}")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size, 64 hex digits.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
