"""The segmenter as an MLflow pyfunc model: a frame of pictures in, occlusion masks out.

    model = mlflow.pyfunc.load_model("models:/s3pot-segmenter@best")
    model.predict(pd.DataFrame({"path": ["photo.jpg"]}))      # or "image": the bytes of files, or those in base64

This file is what is logged ("models from code"): MLflow stores a copy of it and runs that copy on load. Nothing is
pickled, and weights load as everywhere in s3pot (safetensors, or `weights_only`), so a model that `registry.py` logged
runs no other code than this file and the installed s3pot. MLflow runs whatever file a version holds: who may write to
the registry may run code where its models are loaded.

A row of the answer belongs to each row that was given: `status` ("ok", "no_face", ... or "failed" with its `error`),
`score`, `abstained`, and `occlusion`, a PNG in the frame of the photograph, 255 = occluded, of its most prominent face.
"""

import base64
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from s3pot import __version__
from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError, parse
from s3pot.embedded import WEIGHT_FILES, file_hash
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.images import ImageError, decode_image, encode_png
from s3pot.places import read_place
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import error_text

CONTENT = "segmenter"
"""Name of the artifact: a folder with weights and their description."""
DESCRIPTION = "segmenter.json"
COLUMNS = ("status", "score", "abstained", "occlusion", "error")
_log = logging.getLogger("s3pot.pyfunc")


class SegmenterModel(PythonModel):
    """Finds what covers the most prominent face of each picture."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the models from the artifacts, never from the installed package.

        `load_model(..., model_config={"device": "cpu"})` chooses the device.

        Raises:
            WeightsError: if a file is not the one that was logged, or the prefix is not the one the head is for.
        """
        folder = Path(context.artifacts[CONTENT])
        self.segmenter = load_segmenter(folder, str((context.model_config or {}).get("device", "auto")))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Segment each row.

        Args:
            context: not used.
            model_input: column `path` (files or URIs, as this machine reads them) or `image` (their bytes, or base64).
            params: not used.

        Raises:
            ValueError: without exactly one of the two columns.
        """
        given = [name for name in ("path", "image") if name in model_input.columns]
        if len(given) != 1:
            raise ValueError(f"expected a column `path` or a column `image`, got {list(model_input.columns)}")
        [column] = given
        rows = [self._row(column, value, str(row)) for row, value in model_input[column].items()]
        return pd.DataFrame(rows, columns=list(COLUMNS), index=model_input.index)

    def _row(self, column: str, value: Any, row: str) -> dict[str, Any]:
        try:
            result = self.segmenter.predict(_read(column, value, row))
        except Exception as error:
            # Whatever one picture breaks must not cost the others their masks.
            failed = ("failed", math.nan, False, None, error_text(error))
            return dict(zip(COLUMNS, failed, strict=True))
        mask = encode_png(result.occlusion.astype(np.uint8) * 255)
        found = (result.status, result.score, result.abstained, mask, None)
        return dict(zip(COLUMNS, found, strict=True))


def load_segmenter(folder: Path, device: str = "auto") -> OcclusionSegmenter:
    """Load the segmenter of a logged folder, checked against its description.

    Raises:
        WeightsError: if a file is not the one that was logged, or the prefix is not the one the head is for.
    """
    described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for name, expected in described["files"].items():
        found = file_hash(folder / name) if (folder / name).is_file() else "missing"
        if found != expected:
            raise WeightsError(f"{folder / name}: not the file that was logged ({found}, expected {expected})")
    if described["s3pot"] != __version__:
        _log.warning("logged with s3pot %s, loaded with %s", described["s3pot"], __version__)
    with weights_from(folder):
        chain = replace(chain_of(described, folder), device=device)
        identity = prefix_identity(prefix_description(chain))
        if identity != described["prefix_identity"]:
            raise WeightsError(
                f"{folder}: logged with the frozen prefix {described['prefix_identity']} (s3pot {described['s3pot']}); "
                f"here it is {identity} (s3pot {__version__}): install that version, or log the segmenter again"
            )
        return OcclusionSegmenter.load(chain, head=folder / WEIGHT_FILES["reweighter"])


def chain_of(described: dict[str, Any], folder: Path) -> ChainConfig:
    """Return the chain of a description, its checkpoints in the folder.

    Raises:
        WeightsError: if this s3pot does not know such a chain.
    """
    mapping = dict(described["chain"])
    for key in ("sam_checkpoint", "parser_checkpoint", "generator_checkpoint"):
        if mapping[key] is not None:
            mapping[key] = str(folder / mapping[key])
    try:
        return parse(ChainConfig, mapping, where=str(folder / DESCRIPTION))
    except ConfigError as error:
        raise WeightsError(f"{error}: install s3pot {described['s3pot']}, which logged it") from error


@contextmanager
def weights_from(folder: Path) -> Iterator[None]:
    """Take embedded weights from a folder for the time of the block."""
    before = os.environ.get("S3POT_WEIGHTS")
    os.environ["S3POT_WEIGHTS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["S3POT_WEIGHTS"]
        else:
            os.environ["S3POT_WEIGHTS"] = before


def _read(column: str, value: Any, row: str) -> np.ndarray:
    """Return the pixels of a picture, (H, W, 3) uint8."""
    if column == "path":
        return decode_image(read_place(str(value)), str(value))
    if isinstance(value, str):  # JSON knows no bytes
        value = base64.b64decode(value, validate=True)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ImageError(f"row {row}: `image` holds the bytes of a file, or base64, got {type(value).__name__}")
    return decode_image(bytes(value), f"row {row}")


mlflow.models.set_model(SegmenterModel())
