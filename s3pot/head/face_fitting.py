"""Fit a copy of the head to a single face, by the objective alone [S3POT 4, "Per-Image Overfitting"].

Transductive: the head has seen the face it is judged on, though never its truth.
"""

import copy
import hashlib
import json
from dataclasses import dataclass, field

from s3pot.config import to_mapping
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.per_image import PerImageConfig, overfit_heads
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter
from s3pot.sam.promptable import PromptableSam


@dataclass(frozen=True, kw_only=True)
class FittingConfig(PerImageConfig):
    """How a head is fitted to one face.

    Attributes:
        objective: which objective.
    """

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    @property
    def identity(self) -> str:
        """Hash of these settings, 10 hex digits."""
        return hashlib.sha256(json.dumps(to_mapping(self), sort_keys=True).encode()).hexdigest()[:10]


def fitted_head(
    head: PromptReweighter, sam: PromptableSam, record: PromptRecord, config: FittingConfig
) -> PromptReweighter:
    """Return a copy of a trained head that was trained on with one record; the head itself stays as it is.

    Raises:
        FloatingPointError: if the objective is not finite.
    """
    fitted = copy.deepcopy(head).requires_grad_(True)
    [outcome] = overfit_heads([fitted], sam, [record], config, config.objective)
    if outcome.stopped == "not_finite":
        raise FloatingPointError(f"{record.id}: the objective is not finite after {outcome.steps} steps")
    return fitted.eval().requires_grad_(False)
