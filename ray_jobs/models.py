"""Official checkpoints: which there are, whether a file is one of them, where it lies, and fetching it.

s3pot models list                             what S3POT can use, what of it is installed, and on what terms
s3pot models check ~/Downloads/79999_iter.pth whether a file is what it should be
s3pot models pull vit_b                       fetch a checkpoint into the folder that S3POT_WEIGHTS names
s3pot models path vit_b                       where it lies
s3pot models selftest chain.sam=vit_b         whether it sees what it should (ray_jobs/selftest.py)
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ray_jobs import selftest
from s3pot.checkpoints import catalogue
from s3pot.checkpoints.catalogue import CheckpointName
from s3pot.checkpoints.download import Progress, download
from s3pot.checkpoints.reading import Mismatch, WeightsError, read_contents, sha256_of
from s3pot.embedded import WEIGHT_FILES, embedded_folder, weights_folder

_MOST_NAMED = 10
_SECONDS_BETWEEN_LINES = 10.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Official checkpoints (SAM, BiSeNet, E4S) and the embedded models: what is there, and whether it is right. "
    "Files are looked for in the folder that S3POT_WEIGHTS names, or where a configuration key such as "
    "chain.sam_checkpoint=PATH points.",
)
Name = Annotated[CheckpointName, typer.Argument(help="Name of the checkpoint, as `s3pot models list` prints it.")]


@app.command("list")
def list_models(
    as_json: Annotated[
        bool, typer.Option("--json", help="For machines: one JSON object per model, in a list.")
    ] = False,
) -> None:
    """List every model S3POT can use: where it is installed (or -), its size, its licence, and where it comes from."""
    rows = [*_official_rows(), *_embedded_rows()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("name", "part", "size", "sha256", "licence", "installed", "source")
    typer.echo(_table([list(columns), *([_cell(column, row[column]) for column in columns] for row in rows)]))
    typer.echo(f"\nofficial checkpoints are looked for in {weights_folder()}, embedded models in {embedded_folder()};")
    typer.echo("S3POT_WEIGHTS names another folder")


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file, wherever it lies.")],
    name: Annotated[
        CheckpointName | None, typer.Option("--as", help="What it should be; by itself: what its file name says.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Name all entries that differ, not only the first.")] = False,
) -> None:
    """Check a file: are the names and shapes in it those of a checkpoint, and is it the very file its authors released?

    Nothing in the file is run. Exit codes: 0 it fits, 1 it does not, 2 it cannot be read.
    """
    try:
        contents = read_contents(path)
        mismatches = {entry.name: catalogue.hold_against(entry.name, contents, path) for entry in catalogue.CHECKPOINTS}
    except WeightsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    fitting = [candidate for candidate, mismatch in mismatches.items() if not mismatch]
    closest = min(mismatches, key=lambda candidate: _count(mismatches[candidate]))
    by_file = {entry.file: entry.name for entry in catalogue.CHECKPOINTS}.get(path.name)
    wanted = name or by_file or closest
    mismatch = mismatches[wanted]
    if not mismatch:
        typer.echo(f"{path}: fits {wanted}, all {len(catalogue.expected_entries(wanted))} entries")
        typer.echo(_hash_verdict(path, wanted))
        return
    named = name or by_file
    typer.echo(f"{path}: " + (f"does not fit {named}" if named else f"fits no checkpoint; {wanted} comes closest"))
    typer.echo(
        f"{len(mismatch.missing)} missing, {len(mismatch.unexpected)} unexpected, {len(mismatch.misshaped)} of another "
        "shape"
    )
    typer.echo("\n".join(_differences(mismatch, None if every else _MOST_NAMED)))
    for other in fitting:
        typer.echo(f"It fits {other}, whose file is called {catalogue.describe_checkpoint(other).file}")
    if path.name in WEIGHT_FILES.values():
        typer.echo("It has the name of an embedded model; those are checked whenever they are loaded")
    raise typer.Exit(1)


app.command("selftest", help=selftest.HELP)(selftest.command)


@app.command("path")
def path_of(name: Name) -> None:
    """Print where a checkpoint lies; where it is missing, say what to get, and exit with 1."""
    try:
        typer.echo(catalogue.find_checkpoint(name))
    except WeightsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command("pull")
def pull(
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="Folder; by itself the one that S3POT_WEIGHTS names, where it is found again.")
    ] = None,
) -> None:
    """Fetch a checkpoint from its authors and verify it. A download that was cut goes on when you run this again.

    Exit codes: 0 it is there and right, 1 it is not.
    """
    wanted = catalogue.describe_checkpoint(name)
    target = (to or weights_folder()).expanduser() / wanted.file
    try:
        if wanted.url is None:
            raise WeightsError(
                f"{name} cannot be pulled: its authors publish it through a web page that wants a browser. Fetch "
                f"{wanted.file} by hand from {wanted.page} and put it at {target}, then: s3pot models check {target}"
            )
        typer.echo(f"{wanted.what}: {wanted.licence}; {wanted.page}", err=True)
        download(wanted.url, target, wanted.sha256, _progress())
    except WeightsError as error:
        typer.echo(f"error: {error}", err=True)
        if wanted.url is not None:
            typer.echo(f"Its authors publish it at {wanted.page}", err=True)
        raise typer.Exit(1) from error
    typer.echo(target)
    if to is not None:
        typer.echo(f"use it with {wanted.config_key}={target}", err=True)


def _official_rows() -> Iterator[dict[str, Any]]:
    for entry in catalogue.CHECKPOINTS:
        source = f"s3pot models pull {entry.name}" if entry.url else entry.page
        described = {"kind": "official", "source": source, "config_key": entry.config_key}
        yield asdict(entry) | described | {"installed": _installed(weights_folder() / entry.file)}


def _embedded_rows() -> Iterator[dict[str, Any]]:
    for name, file in WEIGHT_FILES.items():
        installed = _installed(embedded_folder() / file)
        source = "ships with S3POT" if name != "supervised" else "python ray_jobs/pretrain.py supervised"
        yield {
            "kind": "embedded",
            "name": name,
            "part": "embedded",
            "file": file,
            "licence": "non-commercial research (WEIGHTS_LICENSE)",
            "source": source,
            "installed": installed,
            "size": Path(installed).stat().st_size if installed else None,
            "sha256": sha256_of(Path(installed)) if installed else None,
        }


def _installed(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    match column:
        case "size":
            return _size_text(value)
        case "sha256":
            return str(value)[:16]  # what `s3pot.embedded.file_hash` calls the identity of weights
        case "installed":
            return Path(value).name
        case _:
            return str(value)


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _hash_verdict(path: Path, name: CheckpointName) -> str:
    entry, found = catalogue.describe_checkpoint(name), sha256_of(path)
    if entry.sha256 is None:
        return f"SHA-256 {found}; that of the released file is not known to S3POT, so it could not be compared"
    if found == entry.sha256:
        return f"SHA-256 {found}: the released file (known from {entry.hash_from})"
    return (
        f"SHA-256 {found}: not the released file, which has {entry.sha256} (known from {entry.hash_from}). Fine-tuned, "
        "converted, or damaged?"
    )


def _count(mismatch: Mismatch) -> int:
    return len(mismatch.missing) + len(mismatch.unexpected) + len(mismatch.misshaped)


def _differences(mismatch: Mismatch, most: int | None) -> Iterator[str]:
    """Name what differs, a line each; of every kind the first `most`."""
    shapes = tuple(f"{name}: expected {wanted}, got {given}" for name, wanted, given in mismatch.misshaped)
    for kind, names in (("missing", mismatch.missing), ("unexpected", mismatch.unexpected), ("shape", shapes)):
        yield from (f"  {kind:10s}  {name}" for name in names[:most])
        if most is not None and len(names) > most:
            yield f"  {kind:10s}  ... and {len(names) - most} more; --all names them"


def _progress() -> Progress:
    """Make what tells a download's progress on standard error: one line in a terminal, now and then one elsewhere."""
    terminal = sys.stderr.isatty()
    started = told = time.monotonic()
    had: int | None = None

    def tell(done: int, total: int | None) -> None:
        nonlocal had, told
        now = time.monotonic()
        had = done if had is None else had  # what an earlier call left does not count for the rate
        complete = done == total
        if not complete and now - told < (0.2 if terminal else _SECONDS_BETWEEN_LINES):
            return
        told = now
        line = progress_text(done, total, (done - had) / max(now - started, 1e-9))
        typer.echo(f"\r{line:<60}" if terminal else line, err=True, nl=complete or not terminal)

    return tell


def progress_text(done: int, total: int | None, rate: float) -> str:
    """Say how far a download is.

    Args:
        done: bytes that are there.
        total: bytes there will be, if known.
        rate: bytes per second.
    """
    came = f"{_size_text(done)}, {rate / 1e6:.1f} MB/s"
    if total is None:
        return came
    left = f", {_duration_text((total - done) / rate)} left" if rate > 0 and done < total else ""
    return f"{100 * done // max(total, 1)} % of {_size_text(total)}, {rate / 1e6:.1f} MB/s{left}"


def _size_text(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    app()
