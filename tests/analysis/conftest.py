"""Fixtures of the report's tests."""

from pathlib import Path

import pytest

from tests.analysis.fake_results import FakeResults


@pytest.fixture
def results(tmp_path: Path) -> FakeResults:
    """An empty store that images and evaluations can be added to."""
    return FakeResults(tmp_path)
