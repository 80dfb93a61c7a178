"""Ask about one image, from its file to its row."""

import time
from collections.abc import Mapping
from typing import Any

from s3pot.images import ImageError
from s3pot.places import read_place, shown_place
from s3pot.screening.chat import Endpoint, PictureRefused, Reply, ask_once
from s3pot.screening.cost import picture_to_send
from s3pot.screening.patience import GivenUp, Pace, Patience, ask_patiently
from s3pot.screening.question import Question, UnparsedAnswer, parse_answer
from s3pot.screening.rows import ANSWERED, FAILED, UNPARSED, Row, new_row


def ask_about(
    item: Mapping[str, Any],
    endpoint: Endpoint,
    question: Question,
    patience: Patience,
    pace: Pace,
    *,
    key: str | None = None,
    seed: int = 0,
) -> Row:
    """Ask about one image until there is an answer, or no hope of one.

    Args:
        item: `id` and `path`.
        endpoint: where.
        question: what.
        patience: how long to go on.
        pace: of all workers together.
        key: bearer token.
        seed: of the jitter.

    Returns:
        A row of `SCHEMA`: labelled, unparsed, or failed with its error.

    Raises:
        EndpointRefused: if no image can do better.
    """
    started = time.monotonic()
    try:
        jpeg = picture_to_send(read_place(item["path"]), shown_place(item["path"]), endpoint.max_side)
    except (ImageError, OSError) as error:
        return new_row(item, status=FAILED, error=str(error), attempts=0, seconds=time.monotonic() - started)
    attempts = 1
    result: Reply | GivenUp
    try:
        result, attempts = ask_patiently(
            lambda: ask_once(endpoint, question, jpeg, key),
            patience.waits(seed, item["id"]),
            pace,
            longest_wait=patience.longest_wait,
        )
    except PictureRefused as refusal:
        result = GivenUp(error=str(refusal))
    seconds = time.monotonic() - started
    if isinstance(result, GivenUp):
        return new_row(item, status=FAILED, error=result.error, attempts=attempts, seconds=seconds)
    return _answered(item, result, question) | {"attempts": attempts, "seconds": seconds}


def _answered(item: Mapping[str, Any], reply: Reply, question: Question) -> Row:
    row = new_row(
        item,
        answer=reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
    try:
        answer = parse_answer(reply.text, question)
    except UnparsedAnswer as error:
        cut = "" if reply.complete else "cut off at max_tokens; "
        return row | {"status": UNPARSED, "error": f"{cut}{error}"}
    return row | {"status": ANSWERED, "label": answer.label, "reason": answer.reason}
