"""Masks of a sweep's cell for the images that a page shows: sweeps keep numbers and heads, not masks."""

from collections.abc import Sequence
from pathlib import Path

from analysis.sweep_results import Sweep
from s3pot.config import load_yaml
from s3pot.evaluation import Mask, evaluate_store, mask_path
from s3pot.head.head_file import load_reweighter
from s3pot.images import write_png
from s3pot.store import PromptStore, StoreError

_HEAD = "reweighter.safetensors"


def write_cell_masks(sweep: Sweep, cell: str, ids: Sequence[str], folder: Path) -> None:
    """Predict with the head of a cell's first seed and write `masks/<id>.png`; nothing is written without its store.

    Args:
        sweep: the sweep.
        cell: one of its cells.
        ids: images to predict.
        folder: where the masks go.

    Raises:
        ConfigError: if the trial's configuration cannot be read.
    """
    store, trial = evaluated_store(sweep, cell), _first_trial(sweep, cell)
    if store is None or trial is None:
        return
    sam = store.load_sam("cpu")
    head = trial / _HEAD
    reweighter = load_reweighter(head, sam.device).eval() if head.is_file() else None

    def keep(image_id: str, occlusion: Mask) -> None:
        write_png(mask_path(folder, image_id), occlusion.astype("uint8") * 255)

    evaluate_store(store, sam, reweighter, ids=ids, on_mask=keep)


def evaluated_store(sweep: Sweep, cell: str) -> PromptStore | None:
    """Open the store that a cell was evaluated on; None when it is gone or was made by other weights.

    Raises:
        ConfigError: if the trial's configuration cannot be read.
    """
    trial = _first_trial(sweep, cell)
    named = None if trial is None else load_yaml(trial / "trial.yaml").get("evaluate_store")
    try:
        store = None if named is None else PromptStore(Path(named))
        if store is not None:
            store.check_made_by(store.chain)
    except StoreError:
        return None
    return store


def _first_trial(sweep: Sweep, cell: str) -> Path | None:
    """Return the folder of the cell's trial with the lowest seed that is done."""
    done = sweep.trials[(sweep.trials["cell"] == cell) & (sweep.trials["status"] == "ok")]
    if done.empty:
        return None
    return sweep.folder / "trials" / str(done.sort_values("seed").index[0])
