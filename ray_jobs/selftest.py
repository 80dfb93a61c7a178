"""`s3pot models selftest`: show every part of a chain a known face and say whether it sees what it should.

s3pot models selftest                                               the embedded models
s3pot models selftest chain.sam=vit_b                               one official checkpoint among them
s3pot models selftest experiments/official.yaml --pictures looks    all of them, and pictures to look at
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from analysis.stage_pictures import FACE, OCCLUSION, draw_mask, draw_parsing, enlarge_mask, panel_frame, resize_picture
from ray_jobs.job_cli import setup_logging
from s3pot.chain import ChainConfig, load_prefix
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError, apply_overrides, load_yaml, parse
from s3pot.images import write_png
from s3pot.known_face import KnownFace, known_face
from s3pot.selftest import Examination, Finding, examine

HELP = """Show every part a known face: does it see what it should?

Names and shapes may fit while a network is fed as it was not trained: BGR for RGB, [-1, 1] for ImageNet
normalisation, another order of labels. No download is needed: the face is scikit-image's astronaut, marked by hand,
with a drawn scarf over it. Where a part fails, the likely mistakes are tried, and what repairs it is named.

\b
Keys, as in experiments (`s3pot encode --help` lists them all):
  chain.sam=nano|vit_b|vit_l|vit_h    chain.sam_checkpoint=PATH
  chain.parser=embedded|bisenet       chain.parser_checkpoint=PATH
  chain.generator=embedded|e4s        chain.generator_checkpoint=PATH
  chain.size=PIXELS                   chain.device=auto|cpu|cuda
Without a PATH, checkpoints are looked for in the folder that S3POT_WEIGHTS names.

\b
What is measured:
  parser     face as a share of the picture, IoU with its outline, and places marked by hand whose class is right
  generator  SSIM and colour of the reference against the clean face, where the scarf does not lie
  sam        IoU of the mask of one point: on the nose (face, skin, head or person, the best), and on the scarf

Exit codes: 0 all is in range, 1 something is not, 2 nothing was tested (weights are missing, a key is wrong).
"""
ESTIMATES = (
    "* an estimate: the authors of S3POT had no such checkpoint to measure. Outside of it is a reason to look at the "
    "pictures (--pictures FOLDER), not a verdict."
)


@dataclass(frozen=True, kw_only=True)
class SelftestConfig:
    """What is tested.

    Attributes:
        chain: models; how faces are aligned does not matter here.
    """

    chain: ChainConfig = field(default_factory=ChainConfig)


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.yaml] [key=value ...]", help="An experiment with a `chain:` block, and keys."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object per finding.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what was shown and answered as PNG, to look at.")
    ] = None,
) -> None:
    """Show every part a known face; `HELP` is what users read."""
    setup_logging()
    try:
        config = _resolve(arguments or []).chain
        face = known_face(config.working_size)
        examined = examine(load_prefix(config), face)
    except (ConfigError, FileNotFoundError, WeightsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    findings = examined.findings
    typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2) if as_json else findings_table(findings))
    if pictures is not None:
        write_pictures(face, examined, pictures.expanduser())
        typer.echo(f"pictures: {pictures}", err=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def findings_table(findings: Sequence[Finding]) -> str:
    """Lay findings out, a line each; below stand the likely causes, and which ranges are estimates."""
    rows = [("part", "measure", "value", "plausible", "", "note"), *(_cells(finding) for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    causes = dict.fromkeys(f"{finding.part}: {finding.note}" for finding in findings if not finding.ok)
    estimates = [ESTIMATES] if any(finding.estimated for finding in findings) else []
    below = [*causes, *estimates]
    return "\n".join([*lines, "", *below] if below else lines)


def write_pictures(face: KnownFace, examined: Examination, folder: Path) -> None:
    """Write what the parts were shown and what they answered."""
    frame = panel_frame(face.clean.shape[:2], np.eye(2, 3))
    clean, occluded = resize_picture(face.clean, frame), resize_picture(face.occluded, frame)
    nose, scarf = (enlarge_mask(mask, frame) for mask in (examined.nose_mask, examined.scarf_mask))
    written = {
        "clean": face.clean,
        "occluded": face.occluded,
        "parsing": draw_parsing(clean, examined.parsing, frame),
        "reference": examined.reference,
        "sam_nose": draw_mask(clean, nose, nose, FACE),
        "sam_scarf": draw_mask(occluded, scarf, scarf, OCCLUSION),
    }
    for name, picture in written.items():
        if picture is not None:
            write_png(folder / f"{name}.png", picture)


def _resolve(arguments: Sequence[str]) -> SelftestConfig:
    """Take the chain of an experiment file; what else the file says is not about models."""
    mapping: dict[str, Any] = {}
    for file in (argument for argument in arguments if "=" not in argument):
        loaded = load_yaml(file)
        if "chain" not in loaded:
            raise ConfigError(file, ["has no `chain:` block, which says what models to test"])
        mapping["chain"] = loaded["chain"]
    mapping = apply_overrides(mapping, [argument for argument in arguments if "=" in argument])
    return parse(SelftestConfig, mapping, where=" ".join(arguments) or "defaults")


def _cells(finding: Finding) -> tuple[str, ...]:
    value = "-" if finding.value is None else f"{finding.value:.3f}"
    span = f"{finding.low:g} to {finding.high:g}{'*' if finding.estimated else ''}"
    verdict = "-" if finding.value is None else "ok" if finding.ok else "OUTSIDE"
    # What is wrong with a part stands below, once for all its lines.
    return finding.part, finding.measure, value, span, verdict, finding.note if finding.ok else ""
