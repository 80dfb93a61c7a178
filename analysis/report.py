"""The page about a store and evaluations of it: table of numbers, figures, stages in pictures, list of all images.

Faces are biometric data, so pictures of them go in only when asked for [design 8]; without them the page has numbers,
figures without faces and image ids.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.case_panels import read_cases
from analysis.feature_contrast import compare_features
from analysis.figures import (
    Drawing,
    choose_examples,
    draw_examples,
    draw_precision_density,
    draw_similarity_densities,
    write_drawings,
)
from analysis.gallery import Gallery
from analysis.page import flatten, made_where, write_page
from analysis.results import COLUMN_GROUPS, HEADLINE, Evaluation, numbers_table, read_evaluation
from s3pot.metrics import FAILED
from s3pot.store import PromptStore

_FAILURES_LISTED = 200


def write_report(
    store: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    *,
    title: str,
    note: str = "",
    pictures: int = 24,
    images: bool = False,
    contrast: bool = False,
) -> Path:
    """Write the report.

    Args:
        store: folder of the store the evaluations are about.
        evaluations: folder of each evaluation by its name, in the order of the table; the last one orders the images,
            and is compared with the first.
        out: HTML file; replaced when it exists.
        title: heading.
        note: what a reader must know first, such as "illustration, not a result"; shown prominently.
        pictures: at most this many images are shown.
        images: embed pictures of faces.
        contrast: draw what feature enhancement does [S3POT Fig. 9]; the store must keep reference tokens. The files
            go to `figures/` beside the page.

    Returns:
        `out`.

    Raises:
        StoreError: if there is no store, or `contrast` finds no reference tokens in it.
        FileNotFoundError: if an evaluation holds no per-image table.
        ResultsError: if its table cannot be read.
    """
    opened = PromptStore(store)
    read = [read_evaluation(name, folder) for name, folder in evaluations.items()]
    drawings = draw_contrast(opened, images=images) if contrast else []
    gallery = Gallery(store=opened, evaluations=read)
    return write_images_page(gallery, out, title=title, note=note, pictures=pictures, images=images, drawings=drawings)


def draw_contrast(store: PromptStore, *, images: bool) -> list[Drawing]:
    """Draw Fig. 9 of a store; its part (a), which shows faces, only with `images`.

    Raises:
        StoreError: if the store keeps no reference tokens, or no image of it has a known truth.
    """
    compared = compare_features(store, store.load_sam())
    drawings = [draw_similarity_densities(compared), draw_precision_density(compared)]
    examples = choose_examples(compared) if images else []
    if examples:
        drawings.insert(0, draw_examples(examples, read_cases(store, [image.id for image in examples])))
    return drawings


def write_images_page(
    gallery: Gallery,
    out: Path,
    *,
    title: str,
    note: str,
    pictures: int,
    images: bool,
    drawings: Sequence[Drawing] = (),
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write the page about evaluations: numbers, figures, images; arguments as in `write_report`.

    Args:
        gallery: evaluations and their store.
        out: HTML file.
        title: heading.
        note: what a reader must know first.
        pictures: at most this many images are shown.
        images: embed pictures of faces.
        drawings: figures; written to `figures/` beside the page as well.
        facts: about the run, for the head of the page.
    """
    write_drawings(drawings, out.parent / "figures")
    read, manifest, store = list(gallery.evaluations), gallery.manifest(), gallery.store
    return write_page(
        "report.html.j2",
        out,
        drawings=drawings,
        title=title,
        note=note,
        facts=made_where() | _facts(store) | dict(facts or {}),
        config=[] if store is None else flatten(store.description.get("chain", {})),
        statuses=_status_counts(manifest, read),
        numbers=numbers_table(read),
        headline=HEADLINE,
        groups=COLUMN_GROUPS,
        failures=_failures(manifest, read),
        failures_listed=_FAILURES_LISTED,
        **gallery.values(pictures=pictures, images=images),
    )


def _status_counts(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> dict[str, list[int]]:
    tables = [manifest, *(evaluation.images for evaluation in evaluations)]
    counts = [table["status"].value_counts() for table in tables]
    statuses = sorted(set().union(*(count.index for count in counts)), key=lambda status: (status != "ok", status))
    rows = {str(status): [int(count.get(status, 0)) for count in counts] for status in statuses}
    return rows | {"all": [len(table) for table in tables]}


def _failures(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[tuple[str, str, str]]:
    """Return (where, id, error) of everything that failed; what failed in the store is not said again."""
    in_store = manifest[manifest["status"] == FAILED]
    found = [("encoding", str(row.id), _sentence(row.error)) for row in in_store.itertuples(index=False)]
    for evaluation in evaluations:
        table = evaluation.images[evaluation.images["status"] == FAILED]
        table = table[~table.index.isin(in_store.index)]
        found += [(evaluation.name, str(row.id), _sentence(row.error)) for row in table.itertuples(index=False)]
    return found


def _sentence(error: Any) -> str:
    return error if isinstance(error, str) and error else "no error was recorded"


def _facts(store: PromptStore | None) -> dict[str, str]:
    if store is None:
        return {"Store": "not found, so there are no pictures"}
    chain = dict(flatten(store.description.get("chain", {})))
    return {
        "Store": f"{store.root.name}, identity {store.description.get('identity', 'unknown')}",
        "SAM": chain.get("sam", "unknown"),
        "Selector": chain.get("prefix.selector.kind", "unknown"),
    }
