"""Configuration of `train`, in a module of its own: workers need it, and nothing else of what the driver imports."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.reweighter import ReweighterConfig, ReweighterVariant
from s3pot.head.training import TrainingConfig
from s3pot.places import Place


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Form of the reweighter; its width follows from the SAM.

    Attributes:
        variant: `residual` leaves the mask as it is before training; `released` is post-norm.
        num_heads: attention heads.
        num_layers: attention layers.
    """

    variant: ReweighterVariant = "residual"
    num_heads: int = 4
    num_layers: int = 1

    def build(self, embed_dim: int) -> ReweighterConfig:
        """Return the full configuration for tokens of this width."""
        return ReweighterConfig(embed_dim=embed_dim, **asdict(self))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A standard training: one head for all images.

    Attributes:
        store: store to train on, made by `encode`; a path, or a URI that pyarrow or fsspec knows.
        dev_store: store with truth; occlusion IoU on it is shown per epoch and decides nothing. None = not shown.
        dev_every: epochs between evaluations on `dev_store`; the last epoch always is.
        head: form of the reweighter.
        training: optimisation; `batch_size` is global.
        objective: which objective.
        keep_best: heads to keep in `best/` beside the last, of the epochs with the lowest objective: this needs no
            truth. The objective is the mean over the epoch, its head the one at its end.
        workers: DDP processes.
        min_workers: go on with as few while the cluster has no room for more, and with more when it has; none = always
            `workers`.
        cpus_per_worker: CPUs that a worker reserves and computes with; 0 = its share of what the cluster has now.
        use_gpu: one GPU per worker.
        max_failures: how often training goes on by itself after workers were lost; -1 = always.
        name: run name; None = store name and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    store: Place
    dev_store: Place | None = None
    dev_every: int = 1
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    keep_best: int = 0
    workers: int = 1
    min_workers: int | None = None
    cpus_per_worker: int = 0
    use_gpu: bool = False
    max_failures: int = 2
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges."""
        for key, least in (("workers", 1), ("dev_every", 1), ("keep_best", 0), ("cpus_per_worker", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")
        if self.max_failures < -1:
            raise ValueError(f"max_failures must be at least -1, got {self.max_failures}")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise ValueError(f"min_workers must lie in [1, workers = {self.workers}], got {self.min_workers}")

    def what_is_trained(self) -> "TrainConfig":
        """Return this without what only says how it runs: a training goes on with other workers."""
        return replace(self, workers=1, min_workers=None, cpus_per_worker=0, use_gpu=False, max_failures=0)
