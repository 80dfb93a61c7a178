"""E4S small enough for tests, and the facts measured on the released network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from s3pot.reference.e4s.checkpoint import e4s_from_checkpoint
from s3pot.reference.e4s.model import E4S, E4SConfig
from s3pot.reference.e4s.upfirdn import fir_kernel
from tests.parity import description, drawn

# 128 px: the finest level has half the channels, and its second colour layer is past the regional ones.
SMALL = E4SConfig(
    size=128, regions=5, regional_layers=9, code=32, encoder_width=64, encoder_units=(1, 2, 2, 1), mapping_layers=2
)


@pytest.fixture
def small_e4s() -> E4S:
    """A small network in which every parameter matters: no bias or noise gain is zero."""
    torch.manual_seed(3)
    model = E4S(SMALL).eval().requires_grad_(False)
    for name, value in [*model.named_parameters(), ("latent_avg", model.latent_avg)]:
        if name.endswith(("bias", "noise.weight", "latent_avg")):
            value += 0.3 * torch.randn(value.shape)
    return model


@pytest.fixture
def blobs() -> Tensor:
    """(1, 64, 64) uint8: regions 0 to 3 with curved outlines, one of them in two parts; region 4 is absent."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[(x**2 + (y + 0.1) ** 2) < 0.7] = 1
    labels[(x.abs() - 0.35) ** 2 + (y + 0.2) ** 2 < 0.02] = 2
    labels[(y > 0.4) & (y < 0.5) & (x.abs() < 0.3)] = 3
    return labels[None]


@pytest.fixture(scope="session")
def e4s_entries(shared_parity: Path) -> list[dict]:
    """Name, shape, dtype and filling of every entry of the released state dict."""
    return description(shared_parity / "e4s_state.json")


@pytest.fixture(scope="session")
def e4s_facts(shared_parity: Path) -> dict[str, Tensor]:
    """What went into the released network and what came out."""
    with np.load(shared_parity / "fixture.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if not name.startswith("bisenet")}


@pytest.fixture(scope="session")
def released_e4s(e4s_entries: list[dict]) -> E4S:
    """The network in the released sizes with the weights of the fixture, read as a checkpoint is."""
    filters = {f"module.{entry['key']}": fir_kernel() for entry in e4s_entries if entry["init"] == "module"}
    weights = {f"module.{entry['key']}": drawn(entry) for entry in e4s_entries if entry["init"] != "module"}
    average = drawn({"key": "latent_avg", "shape": (18, 512), "init": "normal", "mean": 0.0, "std": 0.5})
    return e4s_from_checkpoint({"state_dict": filters | weights, "latent_avg": average}, "the fixture")
