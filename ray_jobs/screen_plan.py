"""What a screening would take: the answer of `--dry-run`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from ray_jobs.encode_inputs import list_inputs
from ray_jobs.job_cli import absolute, absolute_place
from s3pot.config import ConfigError
from s3pot.images import ImageError
from s3pot.places import read_place
from s3pot.screening.chat import Endpoint
from s3pot.screening.cost import picture_tokens, question_tokens, sent_size
from s3pot.screening.question import Question
from s3pot.screening.rows import ANSWERED, UNPARSED

if TYPE_CHECKING:
    from ray_jobs.screen import ScreenConfig

_PROBED = 20
_TABLE = "screening.parquet"


def plan_screening(config: "ScreenConfig") -> list[str]:
    """Say in a few lines what there is to do and what it costs; what stands in the way is a line, not an error."""
    try:
        items = list_inputs(absolute_place(config.input), config.limit)
    except (ImageError, ConfigError, OSError) as error:
        return [f"no estimate: {error}"]
    todo = items[~items["id"].map(str).isin(_answered(absolute(config.out)))]
    lines = [f"{len(items):,} images, {len(items) - len(todo):,} of them answered already"]
    if config.endpoint is None or config.question is None:
        return [*lines, "no endpoint: our own occlusion score; `s3pot encode --dry-run` says how long an image takes"]
    return [*lines, *_cost(todo, config, config.endpoint, config.question)] if len(todo) else lines


def _answered(out: Path) -> set[str]:
    table = out / _TABLE
    if not table.is_file():
        return set()
    rows = pq.read_table(table, columns=["id", "status"]).to_pandas()
    return set(rows["id"][rows["status"].isin([ANSWERED, UNPARSED])])


def _cost(todo: pd.DataFrame, config: "ScreenConfig", endpoint: Endpoint, question: Question) -> list[str]:
    places = np.unique(np.linspace(0, len(todo) - 1, _PROBED).astype(int))
    sizes = _sizes(todo["path"].iloc[places].tolist())
    lines = [
        f"{len(todo):,} pictures go to {endpoint.host} (model {endpoint.model}), without EXIF and at most "
        f"{endpoint.max_side} px a side"
    ]
    if not sizes:
        return [*lines, f"no estimate: none of {len(places)} pictures can be read"]
    sent = [sent_size(height, width, endpoint.max_side) for height, width in sizes]
    per_picture = float(np.mean([picture_tokens(height, width, config.price.token_side) for height, width in sent]))
    tokens = len(todo) * (per_picture + question_tokens(question))
    most = len(todo) * endpoint.max_tokens
    lines.append(
        f"about {tokens:,.0f} tokens to send ({per_picture:.0f} for a picture, {question_tokens(question)} for the "
        f"question; probe of {len(sizes)} pictures), at most {most:,} to receive; attempts that fail come on top"
    )
    if config.price.input or config.price.output:
        least, largest = config.price.of(tokens, 0.0), config.price.of(tokens, float(most))
        lines.append(f"between {least:,.2f} and {largest:,.2f} at the given prices")
    if config.requests_per_minute:
        hours = len(todo) / config.requests_per_minute / 60
        lines.append(f"at least {hours:.3g} h at {config.requests_per_minute:g} requests per minute")
    return lines


def _sizes(places: Sequence[str]) -> list[tuple[int, int]]:
    """Return (height, width) of the pictures that can be read."""
    found = []
    for place in places:
        try:
            with Image.open(io.BytesIO(read_place(place))) as picture:
                found.append((picture.height, picture.width))
        except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
            continue
    return found
