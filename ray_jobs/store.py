"""Look after a store: what it holds, whether it is whole, stores made apart, images that have to go.

s3pot store info runs/stores/photos                        images by status, bytes, chain
s3pot store verify runs/stores/photos --repair             find what is damaged; mark it as to be encoded again
s3pot store merge runs/stores/a runs/stores/b --into c     one store of several that the same chain made
s3pot store prune runs/stores/photos --id IMG_0042.jpg     remove an image and all that is stored of it

Exit codes: 0 fine, 1 something is wrong and named, 2 nothing was done.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from s3pot import yaml12
from s3pot.store.errors import StoreError
from s3pot.store.inventory import Inventory, take_inventory
from s3pot.store.merging import merge
from s3pot.store.prompt_store import PromptStore
from s3pot.store.pruning import IN_FLIGHT_S, prune
from s3pot.store.stale_images import gone_ids
from s3pot.store.verification import Problem, repair, verify

_MOST_NAMED = 5

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Look after stores of frozen results: info, verify, merge, prune. docs/store.md describes their files.",
)
Root = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
InFlight = Annotated[
    float,
    typer.Option(
        "--in-flight",
        min=0.0,
        help="Seconds for which a file without rows may belong to an encoding at work; 0 when there is none.",
    ),
]


@app.command("info")
def info(root: Root, as_json: AsJson = False) -> None:
    """Print images by status, bytes, bytes per image, schema version, identity and chain."""
    with _sentences():
        inventory = take_inventory(PromptStore(root))
    typer.echo(json.dumps(asdict(inventory), indent=2) if as_json else _info_text(inventory))


@app.command("verify")
def verify_store(
    root: Root,
    repairing: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged, and mark its images as to be encoded again.")
    ] = False,
    in_flight: InFlight = IN_FLIGHT_S,
    as_json: AsJson = False,
) -> None:
    """Read the whole store and name what is truncated, damaged, missing, without rows, or there twice.

    Exit codes: 0 it is whole, 1 it is not (or was not, with --repair).
    """
    again: list[str] = []
    with _sentences():
        store = PromptStore(root)
        problems = verify(store, in_flight_s=in_flight)
        if repairing and problems:
            again = repair(store, problems)
    if as_json:
        typer.echo(json.dumps({"problems": [_plain(problem) for problem in problems], "encode_again": again}, indent=2))
    else:
        typer.echo("\n".join(_problem_text(problem) for problem in problems) or f"{root}: whole")
        if repairing and problems:
            typer.echo(f"repaired: {len(again)} images known to be encoded again; run `s3pot encode`")
        elif problems:
            typer.echo(f"{len(problems)} problems: s3pot store verify --repair {root}")
    if problems:
        raise typer.Exit(1)


@app.command("merge")
def merge_stores(
    roots: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores that the same chain made.")],
    into: Annotated[Path, typer.Option("--into", help="Folder of the new store.")],
) -> None:
    """Make one store of several; files are linked, or copied between disks. The stores stay as they are."""
    with _sentences():
        merged = merge([PromptStore(root) for root in roots], into)
        typer.echo(f"{into}: {len(merged.rows(['status']))} images of {len(roots)} stores")


@app.command("prune")
def prune_store(
    root: Root,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Image to remove; can be given several times.")] = None,
    file: Annotated[Path | None, typer.Option("--ids", help="File with an id to remove per line.")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Remove images whose file is not there any more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the ids that would be removed, and stop.")] = False,
    in_flight: InFlight = IN_FLIGHT_S,
) -> None:
    """Remove images from manifest and shards, and whatever else the store holds besides its rows.

    Without --id, --ids and --gone only remains are removed and the manifest is compacted. Exit codes: 0 done, 1 done,
    but an id was not there, or files too young to touch may hold removed images.
    """
    with _sentences():
        store = PromptStore(root)
        images = {*(ids or ()), *(_ids_of(file) if file else ()), *(gone_ids(store) if gone else ())}
        if dry_run:
            typer.echo("\n".join(store.rows_of(images)))
            return
        done = prune(store, images, in_flight_s=in_flight)
    typer.echo(
        f"{root}: {len(done.ids)} rows removed, {done.shards_removed} shards removed and {done.shards_rewritten} "
        f"written anew, {_size_text(done.bytes_freed)} freed"
    )
    if done.unknown:
        typer.echo(f"not in {root}, or removed before: {_shortened(done.unknown)}", err=True)
    if done.held_back:
        typer.echo(
            f"may hold removed images, but were written less than {in_flight:.0f} s ago: {', '.join(done.held_back)}; "
            "run this again when no encoding is at work, with --in-flight 0",
            err=True,
        )
    if done.unknown or done.held_back:
        raise typer.Exit(1)


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except (StoreError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _ids_of(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _info_text(inventory: Inventory) -> str:
    total = sum(inventory.images.values())
    per_image = inventory.token_bytes_per_image + inventory.manifest_bytes_per_image
    counts = ", ".join(f"{number} {status}" for status, number in sorted(inventory.images.items())) or "none"
    lines = [
        f"{inventory.root}",
        f"images     {total}: {counts}",
        f"tokens     {_size_text(inventory.token_bytes)} as {inventory.tokens} in {inventory.shards} shards, "
        f"{inventory.token_bytes_per_image:.0f} bytes per image",
        f"manifest   {_size_text(inventory.manifest_bytes)} in {inventory.parts} parts, "
        f"{inventory.manifest_bytes_per_image:.0f} bytes per image; {inventory.superseded_rows} rows superseded",
        f"in all     {per_image:.0f} bytes per image; {_size_text(inventory.disk_free)} free on this disk",
        f"schema     version {inventory.schema_version}",
        f"identity   {inventory.identity}",
        "chain",
        *(f"  {line}" for line in yaml12.dump(inventory.chain).splitlines()),
    ]
    return "\n".join(lines)


def _problem_text(problem: Problem) -> str:
    images = f" [{_shortened(problem.images)}]" if problem.images else ""
    return f"{problem.kind:<10}{problem.file}{images}{': ' + problem.detail if problem.detail else ''}"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _plain(problem: Problem) -> dict[str, Any]:
    return asdict(problem) | {"file": str(problem.file)}


def _size_text(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    app()
