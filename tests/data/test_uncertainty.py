import math

import numpy as np
import pandas as pd
import pytest

from s3pot.data.uncertainty import uncertainty


def test_the_nearer_the_threshold_the_less_certain() -> None:
    table = pd.DataFrame({"occlusion_score": [0.02, 0.5, 0.04, 0.0, np.nan, 0.01]})
    values = uncertainty(table, 0.02)
    assert values[0] == 0.0
    assert values[2] == pytest.approx(values[5]), "half and double are equally far"
    assert values[2] == pytest.approx(-math.log(2))
    assert values[0] > values[2] > values[1] > values[3]
    assert values[3] == values[4] == -np.inf


def test_any_other_column_largest_first() -> None:
    table = pd.DataFrame({"entropy": [0.1, None, 0.7], "occlusion_score": 0.5})
    assert uncertainty(table, 0.0, "entropy").tolist() == [0.1, -np.inf, 0.7]


def test_what_gives_no_order() -> None:
    table = pd.DataFrame({"occlusion_score": [0.1], "status": ["ok"]})
    with pytest.raises(ValueError, match="no column entropy, only occlusion_score, status"):
        uncertainty(table, 0.1, "entropy")
    with pytest.raises(ValueError, match="status holds no number"):
        uncertainty(table, 0.1, "status")
    for threshold in (0.0, -math.inf, math.nan):
        with pytest.raises(ValueError, match="must be above 0"):
            uncertainty(table, threshold)
