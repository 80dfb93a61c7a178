"""Write a segmenter as an MLflow pyfunc model: a folder of weights, and ray_jobs/pyfunc_model.py as the code."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import s3pot
from ray_jobs.serve_example import example_photograph
from s3pot.chain import ChainConfig, model_files
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import to_mapping
from s3pot.embedded import WEIGHT_FILES, file_hash, weights_path
from s3pot.head.head_file import check_prefix, read_prefix
from s3pot.head.prefix_identity import prefix_identity

CONTENT = "segmenter"
"""Name of the artifact: a folder with weights and their description."""
DESCRIPTION = "segmenter.json"
HEAD_FILE = WEIGHT_FILES["reweighter"]
WEIGHTS_LICENCE = Path(s3pot.__file__).parent / "weights" / "WEIGHTS_LICENSE"
CODE = Path(__file__).with_name("pyfunc_model.py")
# What predictions depend on; without the build ("+cu130"), which is that of a machine.
_PINNED = (
    "torch",
    "torchvision",
    "segment-anything",
    "numpy",
    "pandas",
    "pyarrow",
    "fsspec",
    "pillow",
    "opencv-python-headless",
    "scipy",
    "safetensors",
    "jaxtyping",
    "pyyaml",
    "mlflow",
)
_CHECKPOINTS = {"sam": "sam_checkpoint", "parser": "parser_checkpoint", "generator": "generator_checkpoint"}


def collect_segmenter(chain: ChainConfig, head: Path, folder: Path) -> dict[str, Any]:
    """Gather the weights of a segmenter in a folder, with a description of them.

    Returns:
        The description: chain, identity of the frozen prefix, hash of every file, version of s3pot.

    Raises:
        WeightsError: if weights are missing, or the head does not say that it is for this chain.
    """
    prefix = read_prefix(head)
    if prefix is None:
        raise WeightsError(f"{head}: does not say which frozen prefix it is for: train it with this s3pot")
    check_prefix(head, chain)
    settings = to_mapping(chain) | {"device": "auto"}
    files = {HEAD_FILE: head}
    for part, path in model_files(chain).items():
        files[path.name] = path
        if settings[_CHECKPOINTS[part]] is not None or path.name not in WEIGHT_FILES.values():
            settings[_CHECKPOINTS[part]] = path.name
    if chain.alignment == "detect":
        files[WEIGHT_FILES["locator"]] = weights_path("locator")
    folder.mkdir(parents=True)
    for name, path in files.items():
        _link(path, folder / name)
    described = {
        "s3pot": s3pot.__version__,
        "chain": settings,
        "prefix_identity": prefix_identity(prefix),
        "files": {name: file_hash(path) for name, path in files.items()},
    }
    shutil.copyfile(WEIGHTS_LICENCE, folder / WEIGHTS_LICENCE.name)
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return described


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:  # another file system; MLflow refuses symbolic links
        shutil.copyfile(path, target)


def save_pyfunc(content: Path, out: Path) -> None:
    """Write an MLflow model of a folder that `collect_segmenter` made.

    Args:
        content: that folder.
        out: folder of the model; must not be there.
    """
    mlflow.pyfunc.save_model(
        path=str(out),
        python_model=str(CODE),
        artifacts={CONTENT: str(content)},
        pip_requirements=requirements(),
        signature=signature(),
        input_example=pd.DataFrame({"image": [example_photograph()]}),
        model_config={"device": "auto"},
    )


def requirements() -> list[str]:
    """Pin what predictions depend on to what is installed, s3pot first."""
    return [f"s3pot=={s3pot.__version__}", *(f"{name}=={version(name).partition('+')[0]}" for name in _PINNED)]


def signature() -> ModelSignature:
    """Pictures as files or as bytes in; one row for each out."""
    given = [ColSpec(DataType.string, "path", required=False), ColSpec(DataType.binary, "image", required=False)]
    found = [
        ColSpec(DataType.string, "status"),
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.boolean, "abstained"),
        ColSpec(DataType.binary, "occlusion", required=False),
        ColSpec(DataType.string, "error", required=False),
    ]
    return ModelSignature(inputs=Schema([*given]), outputs=Schema([*found]))
