import numpy as np
import pandas as pd
import pytest

from s3pot.metrics.slices import slices


def groups(**columns: object) -> dict[str, list[int]]:
    return {name: np.flatnonzero(chosen).tolist() for name, chosen in slices(pd.DataFrame(columns)).items()}


def test_sizes_and_fine_things():
    found = groups(truth_share=[1.0, 5.0, 20.0, 21.0, np.nan], thin_share=[0.9, 0.5, 0.1, 0.0, np.nan])
    assert found == {
        "size=small": [0],
        "size=medium": [1, 2],
        "size=large": [3],
        "fine=yes": [0],
        "fine=no": [1, 2, 3],
    }


def test_opacity_and_what_a_user_knows():
    found = groups(
        attribute_alpha=[0.5, 0.9, None], attribute_light=["dim", None, "dim"], attribute_new=[True, False, True]
    )
    assert found == {
        "translucent=yes": [0],
        "translucent=no": [1],
        "light=dim": [0, 2],
        "new=False": [1],
        "new=True": [0, 2],
    }


def test_an_attribute_of_many_values_is_no_group():
    with pytest.raises(ValueError, match="'age' has 21 values"):
        groups(attribute_age=list(range(21)))
