"""Random draws that depend on (run seed, stage, item) alone.

Every draw takes its generator from here, so a result does not change with the number of workers or the order in which
they work, and one item can be run again by itself.
"""

import hashlib
import json
import operator

import numpy as np
import torch


def derive_seed(seed: int, stage: str, item: str) -> int:
    """Return a 63-bit seed, the same on every machine and Python process.

    Args:
        seed: Seed of the run.
        stage: What the draws are for, such as "overfit" or "composite".
        item: Id of the image or trial.
    """
    # JSON keeps the parts apart: ("a", "bc") and ("ab", "c") must not meet. Python's hash() differs per process.
    key = json.dumps([operator.index(seed), stage, item]).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def generator(seed: int, stage: str, item: str) -> np.random.Generator:
    """Return a fresh NumPy generator for one item of one stage."""
    return np.random.default_rng(derive_seed(seed, stage, item))


def torch_generator(seed: int, stage: str, item: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh PyTorch generator for one item of one stage; its stream differs between CPU and GPU."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, stage, item))
