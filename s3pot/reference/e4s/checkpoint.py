"""Read E4S from a released checkpoint.

A checkpoint is a dict with the weights under `state_dict`, their names perhaps prefixed with `module.` (a trace of
data-parallel training), and the average style code beside them under `latent_avg`. What training left there besides
(moving averages, discriminator, options) is not looked at.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3pot.checkpoints.reading import WeightsError, compare, read_contents, state_of
from s3pot.reference.e4s.model import E4S, E4SConfig

_AVERAGE = "latent_avg"


def load_e4s(path: Path, config: E4SConfig | None = None) -> E4S:
    """Load the released generator (`iteration_300000.pt`), float32, frozen, in eval mode.

    Args:
        path: the checkpoint.
        config: sizes (default: those of the released network).

    Raises:
        WeightsError: if the file is missing, unreadable, or of another network.
    """
    return e4s_from_checkpoint(read_contents(path), path, config)


def e4s_from_checkpoint(contents: Mapping[str, Any], source: str | Path, config: E4SConfig | None = None) -> E4S:
    """Build the network with the weights of a checkpoint, which are copied.

    Args:
        contents: of `read_contents`.
        source: what errors call the checkpoint, such as its path.
        config: sizes (default: those of the released network).

    Returns:
        The network in float32 and eval mode, without gradients.

    Raises:
        WeightsError: if a part is missing, or names or shapes differ; names the first ones.
    """
    given = entries_given(contents, source)
    with torch.device("meta"):  # the weights come from the checkpoint: drawing them at random would take seconds
        model = E4S(config)
    expected = entries_expected(model)
    if mismatch := compare(expected, given):
        raise WeightsError(f"{source}: does not fit E4S: {mismatch.summary()}")
    own = {name: given[name].to(value.dtype, copy=True) for name, value in expected.items()}
    model.latent_avg = own.pop(_AVERAGE)
    model.load_state_dict(own, assign=True)
    return model.eval().requires_grad_(False)


def entries_expected(model: E4S) -> dict[str, Tensor]:
    """Name all tensors that a checkpoint of this network holds: its state dict and `latent_avg`."""
    return {**model.state_dict(), _AVERAGE: model.latent_avg}


def entries_given(contents: Mapping[str, Any], source: str | Path) -> dict[str, Tensor]:
    """Name the tensors of a checkpoint as `entries_expected` does; `latent_avg` is left out where it is missing.

    Raises:
        WeightsError: if the weights are no plain dictionary of tensors.
    """
    average = contents.get(_AVERAGE)
    return state_of(contents, source) | ({_AVERAGE: average} if isinstance(average, Tensor) else {})
