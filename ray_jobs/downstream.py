"""Print what the masks of an evaluation are worth to the face parser of its store [S3POT Fig. 2a].

python ray_jobs/downstream.py store=runs/stores/dev evaluation=runs/evaluate/dev-embedded

Labels of occluded pictures, as they come and with the predicted (or the true) occlusion taken out, against clean
labels. What the measures mean stands in analysis/downstream.py.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.downstream import parsing_summary, parsing_table
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig:
    """What is measured.

    Attributes:
        store: of composites with clean labels.
        evaluation: folder of an evaluation on it, with its masks.
        out: CSV file to write the summary to; null = only print it.
    """

    store: Path
    evaluation: Path
    out: Path | None = None


def downstream(config: DownstreamConfig) -> pd.DataFrame:
    """Measure, print and write; returns the summary."""
    config = with_absolute_paths(config)
    summary = parsing_summary(parsing_table(config.store, config.evaluation))
    sys.stdout.write(summary.to_string(index=False, float_format="%.3f") + "\n")
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        summary.to_csv(config.out, index=False)
    return summary


command = job_command(DownstreamConfig, downstream, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
