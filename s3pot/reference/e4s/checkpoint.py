"""Read E4S from the contents of a released checkpoint.

A checkpoint is a dict with the weights under `state_dict`, their names perhaps prefixed with `module.` (a trace of
data-parallel training), and the average style code beside them under `latent_avg`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from s3pot.reference.e4s.model import E4S, E4SConfig

_PREFIX = "module."
_MOST_NAMED = 5


def e4s_from_checkpoint(contents: Mapping[str, object], source: str, config: E4SConfig | None = None) -> E4S:
    """Build the network with the weights of a checkpoint.

    Args:
        contents: what `torch.load(path, weights_only=True)` returned.
        source: what errors call the checkpoint, such as its path.
        config: sizes (default: those of the released network).

    Returns:
        The network in eval mode, without gradients.

    Raises:
        ValueError: if a part is missing, or names or shapes differ; names the first ones.
    """
    for part in ("state_dict", "latent_avg"):
        if part not in contents:
            raise ValueError(f"{source} has no `{part}`, only {sorted(contents)}: is it the E4S checkpoint?")
    state, average = contents["state_dict"], contents["latent_avg"]
    if not isinstance(state, Mapping) or not isinstance(average, Tensor):
        raise ValueError(f"{source}: `state_dict` must be a dict and `latent_avg` a tensor")
    given = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    with torch.device("meta"):  # the weights come from the checkpoint: drawing them at random would take seconds
        model = E4S(config)
    expected = {**model.state_dict(), "latent_avg": model.latent_avg}
    problems = _differences(expected, {**given, "latent_avg": average})
    if problems:
        more = f" and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
        raise ValueError(f"{source} does not fit E4S: {'; '.join(problems[:_MOST_NAMED])}{more}")
    model.load_state_dict(given, assign=True)
    model.latent_avg = average
    return model.float().eval().requires_grad_(False)


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Describe what is missing, unexpected or of another shape."""
    missing = [f"{name} is missing" for name in expected if name not in given]
    unexpected = [f"{name} is unexpected" for name in given if name not in expected]
    shapes = [
        f"{name} has shape {tuple(given[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    return missing + unexpected + shapes
