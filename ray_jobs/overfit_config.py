"""Configuration of `overfit`, in a module of its own: trials need it, and nothing else of what the driver imports."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ray_jobs.train_config import HeadConfig
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.per_image import PerImageConfig

_RANGES = {"limit": 0, "worst": 0, "images_per_trial": 1, "together": 1, "concurrent": 0}


@dataclass(frozen=True, kw_only=True)
class OverfitConfig:
    """The per-image fleet.

    Attributes:
        store: store with the images.
        steps: most optimizer steps per image; the cosine decay is over all of them, also where an image stops before.
        learning_rate: initial rate of the cosine decay; one image tolerates more than a data set.
        weight_decay: of AdamW.
        patience: stop an image when this many steps in a row brought nothing; 0 = take all steps.
        min_improvement: how far these steps together must lower its lowest objective to have brought something.
        head: form of the reweighter when it starts from scratch.
        start_from: trained head to start from; None = from scratch, i.e. from the mask without reweighting.
        objective: which objective.
        images: only these ids; empty = all.
        worst: only so many images, those that did worst in the run `of`; 0 = not chosen so.
        of: folder of an `evaluate` or `overfit` run. Lowest IoU is worst; without truth, the highest objective at the
            end of an overfit run, or the lowest occlusion score of an evaluation.
        limit: at most this many images; 0 = all.
        retry_failed: do images again that failed before.
        keep_heads: write the head of each image to `heads/`.
        child_runs: an MLflow run for each image, below that of the fleet.
        images_per_trial: images that share a trial; what is lost, and done again, when its process dies.
        together: images of a trial that are optimised at once, in one batch; pays on a GPU, not on a CPU core.
        concurrent: trials at once; 0 = one per CPU core, or as many as fit the GPUs.
        gpus_per_trial: share of a GPU per trial; 0 = CPU.
        seed: of initial weights.
        name: run name; None = store name and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    store: Path
    steps: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    patience: int = 0
    min_improvement: float = 1e-3
    head: HeadConfig = field(default_factory=HeadConfig)
    start_from: Path | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    images: tuple[str, ...] = ()
    worst: int = 0
    of: Path | None = None
    limit: int = 0
    retry_failed: bool = False
    keep_heads: bool = False
    child_runs: bool = False
    images_per_trial: int = 8
    together: int = 1
    concurrent: int = 0
    gpus_per_trial: float = 0.0
    seed: int = 0
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges, and that images are chosen in one way."""
        for key, least in _RANGES.items():
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")
        if self.together > self.images_per_trial:
            raise ValueError(f"together ({self.together}) must be at most images_per_trial ({self.images_per_trial})")
        if not 0.0 <= self.gpus_per_trial <= 1.0:
            raise ValueError(f"gpus_per_trial must lie in [0, 1], got {self.gpus_per_trial}")
        if (self.worst > 0) != (self.of is not None):
            raise ValueError("worst needs of=RUN, the run they did worst in, and of needs worst=N")
        if self.worst and self.images:
            raise ValueError("worst and images both say which images: give one of them")
        self.optimisation  # noqa: B018  its ranges are checked there

    @property
    def optimisation(self) -> PerImageConfig:
        """How each image is overfitted."""
        return PerImageConfig(**{each.name: getattr(self, each.name) for each in fields(PerImageConfig)})

    @property
    def device(self) -> str:
        """A GPU is used when one is reserved, whatever "auto" would find on the machine."""
        return "cuda" if self.gpus_per_trial > 0 else "cpu"

    def what_is_optimised(self) -> "OverfitConfig":
        """Return this without what only says which images and how it runs: an image's result does not depend on it."""
        return replace(
            self,
            start_from=None,  # its content counts, not its place
            images=(),
            worst=0,
            of=None,
            limit=0,
            retry_failed=False,
            keep_heads=False,
            child_runs=False,
            images_per_trial=1,
            together=1,
            concurrent=0,
            gpus_per_trial=0.0,
        )
