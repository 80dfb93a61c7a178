"""Deterministic weights for networks whose checkpoints cannot be had, and how far their outputs are from the facts.

`../shared/parity` says how every entry of a released state dict was filled when its outputs were recorded.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-3
"""Largest relative error of a compatible network, in standard deviations of the recorded array."""


def description(path: Path) -> list[dict]:
    """The entries of a `*_state.json`: key, shape, dtype and how it is filled, in the order of the released file."""
    return json.loads(path.read_text())


def drawn(entry: dict) -> Tensor:
    """The values of an entry that is drawn; the name alone fixes them."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(entry["key"].encode())))
    if entry["init"] == "normal":
        values = generator.standard_normal(entry["shape"], np.float32) * entry["std"] + entry["mean"]
    else:
        assert entry["init"] == "uniform", entry
        values = generator.random(entry["shape"], np.float32) * (entry["high"] - entry["low"]) + entry["low"]
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def differences(model: nn.Module, path: Path) -> list[str]:
    """What keeps a model's state dict from being the described one: names, shapes and dtypes."""
    found = {name: (list(value.shape), str(value.dtype)) for name, value in model.state_dict().items()}
    expected = {entry["key"]: (entry["shape"], "torch." + entry["dtype"]) for entry in description(path)}
    names = sorted(found.keys() | expected.keys())
    return [
        f"{name}: {found.get(name)}, not {expected.get(name)}"
        for name in names
        if found.get(name) != expected.get(name)
    ]


def fill_from_description(model: nn.Module, path: Path) -> None:
    """Give a model the deterministic weights; entries that are the module's own are left as it built them."""
    assert not differences(model, path)
    state = {entry["key"]: drawn(entry) for entry in description(path) if entry["init"] != "module"}
    kept = {name: value for name, value in model.state_dict().items() if name not in state}
    model.load_state_dict(kept | state)


def relative_error(found: Tensor, recorded: np.ndarray) -> float:
    """Largest difference, in standard deviations of what was recorded."""
    assert found.shape == recorded.shape
    return float(np.abs(found.detach().numpy() - recorded).max() / recorded.std())


def errors_when_perturbed(
    model: nn.Module,
    run: Callable[[], dict[str, Tensor]],
    recorded: dict[str, np.ndarray],
    names: Iterable[str],
    amount: float = 0.3,
) -> dict[str, float]:
    """Disturb one tensor after the other and say how far the worst output is then from what was recorded.

    What was finished before the disturbed module ran repeats what it gave in an undisturbed run, which saves most of
    the work.

    Args:
        model: the network, undisturbed; it is left as it was.
        run: computes the outputs.
        recorded: what the outputs were, by the same names.
        names: the tensors of the state dict to disturb.
        amount: standard deviation of the noise that every value is multiplied by, as a logarithm.
    """
    state, errors = model.state_dict(), {}
    outputs = _outputs_of_modules(model, run)
    order = {module: place for place, module in enumerate(outputs)}
    for name in names:
        owner = model.get_submodule(name.rpartition(".")[0])
        tensor = state[name]
        original = tensor.clone()
        draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        tensor.mul_(torch.exp(amount * torch.randn(tensor.shape, generator=draw)))  # a variance stays positive
        earlier = {module: output for module, output in outputs.items() if order[module] < order.get(owner, 0)}
        with _repeating(earlier):
            found = run()
        tensor.copy_(original)
        errors[name] = max(relative_error(found[key], recorded[key]) for key in recorded)
    return errors


def _outputs_of_modules(model: nn.Module, run: Callable[[], dict[str, Tensor]]) -> dict[nn.Module, Tensor]:
    """The output of every module that runs once and gives one tensor, in the order in which they were finished."""
    outputs: dict[nn.Module, Tensor] = {}
    repeated: set[nn.Module] = set()

    def keep(module: nn.Module, _: object, output: object) -> None:
        repeated.update({module} & outputs.keys())
        if isinstance(output, Tensor):
            outputs[module] = output.clone()  # a later layer may work in place

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    run()
    for hook in hooks:
        hook.remove()
    return {module: output for module, output in outputs.items() if module not in repeated}


@contextmanager
def _repeating(outputs: dict[nn.Module, Tensor]) -> Iterator[None]:
    for module, output in outputs.items():
        module.forward = lambda *_, output=output: output.clone()  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in outputs:
            del module.forward  # the class's own shows again
