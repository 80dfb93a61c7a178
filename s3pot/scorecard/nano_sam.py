"""How well a SAM answers prompts: few points, one skin point, many points, wrong points.

occluder/<p>+<n>       p points on the occluder, n on the rest of the face
visible_face/1         one point on visible skin: what feature enhancement asks
part/3+3, segment/3+3  face parts and natural segments
number/<N>             N points on the occluder and the rest of the face, in the proportion of their areas
wrong/<share>          100 such points, that share of them with the wrong polarity; the points are the same for all
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from s3pot.sam.promptable import PromptableSam
from s3pot.scorecard.estimates import Estimate, mean_of
from s3pot.scorecard.prompting import PromptSet, answer, draw_points, flip_polarity, split_by_area
from s3pot.scorecard.targets import Target, TargetPicture
from s3pot.seeding import generator

FEW = ((1, 0), (3, 3), (10, 10))
NUMBERS = (10, 25, 50, 100, 200, 400)
WRONG_SHARES = (0.0, 0.05, 0.10, 0.20, 0.30)
WRONG_POINTS = 100
_COLUMNS = ("measure", "name", "id", "face_id", "cutout_id", "positives", "negatives", "iou")


def measure_nano_sam(pictures: Sequence[TargetPicture], sam: PromptableSam, seed: int = 0) -> pd.DataFrame:
    """Ask for every target of every picture.

    Args:
        pictures: of composites and of natural photographs.
        sam: the model.
        seed: of all points.

    Returns:
        One row per prompt set: measure, name of the part or segment, id, face_id, cutout_id, positives and negatives
        (after flipping), iou of the whole target at the picture's size.
    """
    prompt_sets = [
        prompt_set
        for place, picture in enumerate(pictures)
        for target in picture.targets
        for prompt_set in _questions(place, picture, target, seed)
    ]
    rows = []
    for prompt_set, mask in zip(prompt_sets, answer(sam, pictures, prompt_sets), strict=True):
        picture, target = pictures[prompt_set.picture], prompt_set.target
        truth, found = target.inside & target.counted, mask & target.counted
        rows.append(
            {
                "measure": prompt_set.measure,
                "name": target.name,
                "id": picture.id,
                "face_id": picture.face_id,
                "cutout_id": picture.cutout_id,
                "positives": int(prompt_set.polarity.sum()),
                "negatives": int((1 - prompt_set.polarity).sum()),
                "iou": float((truth & found).sum() / (truth | found).sum()),
            }
        )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def estimate_nano_sam(table: pd.DataFrame, ceilings: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """Average the table of `measure_nano_sam` by measure, with the ceilings of `measure_ceilings` beside."""
    best = {str(kind): mean_of(rows, "iou", seed) for kind, rows in ceilings.groupby("kind")}
    return {
        f"sam/{measure}": mean_of(rows, "iou", seed).with_ceiling(best.get(_target_kind(str(measure))))
        for measure, rows in table.groupby("measure", sort=False)
    }


def _target_kind(measure: str) -> str:
    kind = measure.split("/")[0]
    return "occluder" if kind in {"number", "wrong"} else kind


def _questions(place: int, picture: TargetPicture, target: Target, seed: int) -> Iterator[PromptSet]:
    def ask(measure: str, positives: int, negatives: int, wrong: float | None = None) -> PromptSet:
        # All shares of wrong prompts start from the same points.
        stage = "wrong" if wrong is not None else measure
        rng = generator(seed, f"scorecard/{stage}", f"{picture.id}/{target.name}")
        points, polarity = draw_points(target, positives, negatives, rng)
        if wrong is not None:
            polarity = flip_polarity(polarity, wrong, rng)
        return PromptSet(picture=place, measure=measure, target=target, points_xy=points, polarity=polarity)

    match target.kind:
        case "occluder":
            for positives, negatives in FEW:
                yield ask(f"occluder/{positives}+{negatives}", positives, negatives)
            for number in NUMBERS:
                yield ask(f"number/{number}", *split_by_area(target, number))
            for share in WRONG_SHARES:
                yield ask(f"wrong/{share:.2f}", *split_by_area(target, WRONG_POINTS), wrong=share)
        case "visible_face":
            yield ask("visible_face/1", 1, 0)
        case kind:
            yield ask(f"{kind}/3+3", 3, 3)
