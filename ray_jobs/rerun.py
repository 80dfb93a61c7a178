"""Repeat one trial of a sweep outside the tuner, and say whether its number comes out again.

    s3pot rerun runs/sweep/table3-0123456789/trials/0123456789ab

Everything that counts is in the trial's folder, but for its stores and weights. Nothing is written there.
Exit codes: 0 the same, 1 another number, 2 no such trial, or it cannot be run.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ray_jobs.job_cli import absolute, setup_logging
from ray_jobs.trial import TABLE, read_result, read_trial, run_trial
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError
from s3pot.store.errors import StoreError

TOLERANCE = 1e-6
"""What counts as the same mean IoU: other versions of a library round differently, the same ones do not."""
_METRIC = "iou_face_mask"


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """A trial's number, then and now.

    Attributes:
        recorded: mean IoU that the trial's folder holds.
        repeated: mean IoU of the repetition.
        largest: largest difference of one image.
        images: images compared.
    """

    recorded: float
    repeated: float
    largest: float
    images: int

    @property
    def difference(self) -> float:
        """Repeated minus recorded."""
        return self.repeated - self.recorded

    @property
    def is_same(self) -> bool:
        """Whether the difference is rounding."""
        return abs(self.difference) <= TOLERANCE


def rerun(folder: Path) -> Repetition:
    """Run a trial again, here and now, and compare.

    Raises:
        ConfigError: if the folder is no trial that has ended well.
        StoreError: if its stores are gone or were made by other weights.
    """
    folder = absolute(folder)
    trial, result = read_trial(folder), read_result(folder)
    if result is None or result["status"] != "ok":
        why = "has not ended" if result is None else f"failed: {result['error']}"
        raise ConfigError(str(folder), [f"this trial {why}; there is no number to compare with"])
    with tempfile.TemporaryDirectory(prefix="s3pot-rerun-") as scratch:
        again = Path(scratch) / "trial"
        repeated = run_trial(trial, again)
        before, after = (pd.read_parquet(place / TABLE).set_index("id")[_METRIC] for place in (folder, again))
    return Repetition(
        recorded=float(result[_METRIC]),
        repeated=float(repeated[_METRIC]),
        largest=float((after - before).abs().max()),
        images=int(before.notna().sum()),
    )


def command(
    folder: Annotated[Path, typer.Argument(metavar="TRIAL", help="Folder of a trial: runs/sweep/NAME/trials/ID.")],
) -> None:
    """Repeat one trial of a sweep outside the tuner, and say whether its number comes out again."""
    setup_logging()
    try:
        found = rerun(folder)
    except (ConfigError, StoreError, WeightsError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(
        f"recorded {found.recorded:.6f}, repeated {found.repeated:.6f}, difference {found.difference:+.1e} "
        f"(largest of {found.images} images {found.largest:.1e}): {'the same' if found.is_same else 'NOT the same'}"
    )
    if not found.is_same:
        raise typer.Exit(1)
