"""The folder of one run: its configuration, what it ran on, and its results [design 8].

    runs/<kind>/<name>/config.yaml    environment.json    ...results...

A run's identity is the hash of configuration and inputs; its default name carries it, so that the same command finds
its own earlier results, and another configuration never lands in them.
"""

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s3pot import yaml12
from s3pot.config import to_mapping

_PACKAGES = ("s3pot", "torch", "ray", "mlflow", "numpy", "pandas", "pyarrow", "safetensors", "segment-anything")


def identity(config: Any, *inputs: str) -> str:
    """Hash a configuration with the identities of its inputs (a store, weights); 10 hex digits."""
    mapping = to_mapping(config)
    for places in ("runs", "name"):
        mapping.pop(places, None)
    content = json.dumps([mapping, *inputs], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def open_run(runs: Path, kind: str, name: str, config: Any) -> Path:
    """Make the run's folder with its configuration and environment; returns the folder."""
    folder = runs / kind / name
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", yaml12.dump(to_mapping(config)))
    write_text(folder / "environment.json", json.dumps(_environment(), indent=2) + "\n")
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git": _git_hash(),
        "packages": {name: version(name) for name in _PACKAGES if _installed(name)},
    }


def _installed(name: str) -> bool:
    # Under `ray job submit --working-dir .` s3pot is a folder on the path, not a distribution.
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _git_hash() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"
