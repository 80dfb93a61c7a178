"""Files of a report that are there whole or not at all: pages, tables, figures."""

import os
import uuid
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file beside its place and move it there; folders are made when missing.

    Args:
        path: where it goes; replaced when it exists.
        content: text is written as UTF-8.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        # A command line can hold bytes that are no text; they must not cost the report.
        part.write_bytes(content.encode("utf-8", "xmlcharrefreplace") if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
