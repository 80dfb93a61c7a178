"""Datasets in, masks back: import, split, composite, export. docs/data.md describes the manifest between them.

s3pot data import     collections of other formats -> one manifest with masks
s3pot data split      who belongs to which split, by hash or person; near-duplicates across splits
s3pot data composite  occluders over clean faces, with exact truth
s3pot data export     masks -> PNG, COCO, LabelMe / X-AnyLabeling, the least certain first
"""

import typer

from ray_jobs import data_composite, data_export, data_import, data_split

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Datasets in, masks back: import -> split -> composite -> ... -> export -> correct -> import. Each takes "
    "[FILE.yaml] [key=value ...], `s3pot data VERB --help` lists its keys, and docs/data.md describes the manifest.",
)
app.command("import")(data_import.command)
app.command("split")(data_split.command)
app.command("composite")(data_composite.command)
app.command("export")(data_export.command)

if __name__ == "__main__":
    app()
