"""What `--dry-run` says of a screening."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_jobs.screen import TABLE, ScreenConfig
from ray_jobs.screen_plan import plan_screening
from s3pot.images import write_png
from s3pot.screening.chat import Endpoint
from s3pot.screening.cost import Price, question_tokens
from s3pot.screening.rows import SCHEMA, new_row
from tests.chat_server import QUESTION


@pytest.fixture
def config(tmp_path: Path) -> ScreenConfig:
    for number in range(6):
        write_png(tmp_path / "photos" / f"{number}.png", np.zeros((56, 112, 3), dtype=np.uint8))
    endpoint = Endpoint(url="http://127.0.0.1:9/v1", model="some/vlm", max_side=56, max_tokens=100)
    return ScreenConfig(
        input=str(tmp_path / "photos"),
        out=tmp_path / "out",
        endpoint=endpoint,
        question=QUESTION,
        price=Price(input=1e6, output=1e6),
        requests_per_minute=2,
    )


def test_images_tokens_price_and_time(config: ScreenConfig) -> None:
    config.out.mkdir()
    rows = [
        new_row({"id": f"{number}.png", "path": ""}, status=status) for number, status in enumerate(("ok", "failed"))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), config.out / TABLE)
    images, where, tokens, price, hours = plan_screening(config)
    assert images == "6 images, 1 of them answered already"
    assert where.startswith("5 pictures go to 127.0.0.1:9 (model some/vlm), without EXIF")
    # 56 x 112 is sent as 28 x 56: two tokens.
    sent = 5 * (2 + question_tokens(QUESTION))
    assert tokens.startswith(f"about {sent} tokens to send (2 for a picture")
    assert "at most 500 to receive" in tokens
    assert price == f"between {sent:,.2f} and {sent + 500:,.2f} at the given prices"
    assert hours == "at least 0.0417 h at 2 requests per minute"


def test_what_stands_in_the_way_is_said(config: ScreenConfig, tmp_path: Path) -> None:
    [line] = plan_screening(ScreenConfig(input=str(tmp_path / "nowhere"), out=tmp_path / "out"))
    assert line.startswith("no estimate: ")
    for path in Path(config.input).iterdir():
        path.write_bytes(b"no picture")
    assert plan_screening(config)[-1] == "no estimate: none of 6 pictures can be read"


def test_our_own_score_costs_no_tokens(config: ScreenConfig) -> None:
    lines = plan_screening(ScreenConfig(input=config.input, out=config.out))
    assert lines[0] == "6 images, 0 of them answered already"
    assert "our own occlusion score" in lines[1]
