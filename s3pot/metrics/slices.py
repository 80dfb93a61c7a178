"""Groups of occluded images beside the occluder's kind: its size, and the limits the paper names [S3POT §5].

- `size`: share of the face that is truly occluded: `small` below 5 %, `large` above 20 %, `medium` between.
- `fine`: `yes` where more than half of the truth is thin (`truth_shape.py`): measured, nobody judged it.
- `translucent`: `yes` where the occluder's mean opacity is below 0.9; only where a column `attribute_alpha` says it
  (a compositor knows it; from a picture and its truth alone it cannot be told).
- any other column `attribute_<name>`, text or bool, by its values: what a user knows of the images.
"""

import pandas as pd

ATTRIBUTE = "attribute_"
SMALL_PERCENT, LARGE_PERCENT = 5.0, 20.0
TRANSLUCENT_BELOW = 0.9
_MOST_VALUES = 20


def slices(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the groups as `name=value` -> bool per image; images of which a thing is unknown are in no group of it.

    Args:
        images: occluded images: columns `truth_share`, `thin_share` and `attribute_*` where they are known.

    Raises:
        ValueError: an attribute has so many values that it is no group, or `attribute_alpha` holds no numbers.
    """
    groups: dict[str, pd.Series] = {}
    if "truth_share" in images:
        share = images["truth_share"]
        groups["size=small"] = share < SMALL_PERCENT
        groups["size=medium"] = (share >= SMALL_PERCENT) & (share <= LARGE_PERCENT)
        groups["size=large"] = share > LARGE_PERCENT
    if "thin_share" in images:
        thin = images["thin_share"]
        groups |= {"fine=yes": thin > 0.5, "fine=no": thin <= 0.5}
    for column in sorted(name for name in images.columns if str(name).startswith(ATTRIBUTE)):
        groups |= _of_attribute(str(column).removeprefix(ATTRIBUTE), images[column])
    return {name: chosen for name, chosen in groups.items() if chosen.any()}


def _of_attribute(name: str, values: pd.Series) -> dict[str, pd.Series]:
    known = values.notna()
    if name == "alpha":
        alpha = pd.to_numeric(values)
        return {
            "translucent=yes": known & (alpha < TRANSLUCENT_BELOW),
            "translucent=no": known & (alpha >= TRANSLUCENT_BELOW),
        }
    texts = values[known].astype(str)
    found = sorted(texts.unique())
    if len(found) > _MOST_VALUES:
        raise ValueError(f"the attribute {name!r} has {len(found)} values, more than {_MOST_VALUES}: bin it first")
    return {f"{name}={value}": (texts == value).reindex(values.index, fill_value=False) for value in found}
