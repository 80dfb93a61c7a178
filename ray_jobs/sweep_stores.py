"""The images and stores that a sweep needs: nothing is encoded twice, by this sweep or another.

    <stores>/<set>-<identity of the chain>       such as runs/stores/sweeps/dev-1f3a...

Chains that differ only after the encoder share the tokens of one encoding, with prompting as it is by default; the
others are drawn from it [s3pot/store/reprompting.py]. Every store holds whatever images any sweep needed so far.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import ray

from ray_jobs import cluster
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.encode_inputs import list_inputs
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.progress import Progress
from ray_jobs.sweep_config import CellPlan, SweepConfig
from s3pot.chain import ChainConfig, chain_identity
from s3pot.config import ConfigError
from s3pot.places import read_place
from s3pot.seeding import derive_seed
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore
from s3pot.store.reprompting import reprompt_images, token_chain

_log = logging.getLogger("s3pot.sweep")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """The images of one set that a sweep works on.

    Attributes:
        name: of the set, such as `dev`.
        items: rows of its manifest.
    """

    name: str
    items: pd.DataFrame

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids, sorted."""
        return tuple(sorted(self.items["id"]))

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file, by id.

        Raises:
            OSError: if a file cannot be read.
        """
        places = zip(self.items["id"], self.items["path"], strict=True)
        return {str(name): hashlib.sha256(read_place(str(path))).hexdigest() for name, path in places}

    @property
    def identity(self) -> str:
        """Hash of ids and contents of the files, 16 hex digits."""
        content = "\n".join(f"{name} {self.hashes[name]}" for name in self.ids)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_images(data: Path, name: str, number: int) -> ImageSet:
    """Choose images of a set by a hash of their ids, so that any number of them is a fair part.

    Raises:
        FileNotFoundError: if the set is not there.
        ConfigError: if it has fewer images.
    """
    manifest = data / name / "manifest.parquet"
    if not manifest.is_file():
        raise FileNotFoundError(
            f"{manifest}: no such set of composites; make it with `s3pot data composite`, or set data=FOLDER"
        )
    items = list_inputs(str(manifest))
    if number > len(items):
        raise ConfigError(str(manifest), [f"holds {len(items)} images, {number} are wanted"])
    if number:
        order = items["id"].map(lambda image_id: derive_seed(0, "sweep/images", str(image_id)))
        items = items.loc[order.sort_values().index[:number]].sort_values("id")
    return ImageSet(name=name, items=items.reset_index(drop=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class NeededStore:
    """A store that trials read.

    Attributes:
        images: what it must hold.
        chain: that makes it.
        root: its folder.
        source: folder of the store whose tokens it takes; None = it is encoded.
    """

    images: ImageSet
    chain: ChainConfig
    root: Path
    source: Path | None

    def missing(self) -> int:
        """Count the images that it does not hold yet, or holds as they were before their files changed."""
        if not (self.root / "store.json").is_file():
            return len(self.images.items)
        rows = PromptStore(self.root).rows(["image_sha256"])
        known = dict(zip(rows["id"], rows["image_sha256"], strict=True))
        return sum(known.get(name) != digest for name, digest in self.images.hashes.items())


@dataclass(frozen=True, kw_only=True, eq=False)
class StorePlan:
    """All stores of a sweep; encoded ones come before those that are drawn from them."""

    stores: tuple[NeededStore, ...]

    def root(self, images: ImageSet, chain: ChainConfig) -> Path:
        """Return the folder of the store of a set and a chain."""
        identity = chain_identity(chain)
        return next(s.root for s in self.stores if s.images is images and chain_identity(s.chain) == identity)


def plan_stores(config: SweepConfig, plan: CellPlan, train: ImageSet, evaluate: ImageSet) -> StorePlan:
    """Return the stores that the trials of a sweep read, and those that they are drawn from.

    Raises:
        WeightsError: if weights are missing.
    """
    needed: dict[Path, NeededStore] = {}
    for cell in plan.cells:
        for images in (train, evaluate):
            if images is train and cell.settings.reweighter == "off":
                continue
            chain = cell.settings.chain
            source = token_chain(chain)
            root, made_from = (config.stores / f"{images.name}-{chain_identity(made)}" for made in (chain, source))
            if root == made_from:
                needed[root] = NeededStore(images=images, chain=chain, root=root, source=None)
            else:
                needed.setdefault(made_from, NeededStore(images=images, chain=source, root=made_from, source=None))
                needed[root] = NeededStore(images=images, chain=chain, root=root, source=made_from)
    return StorePlan(stores=tuple(sorted(needed.values(), key=lambda store: store.source is not None)))


def make_stores(plan: StorePlan, config: SweepConfig) -> dict[str, int]:
    """Make what is missing; returns how many images were encoded and how many were given other prompts.

    Raises:
        StoreError: if a store cannot be made, or nothing could be encoded.
    """
    counts = {"encoded": 0, "reprompted": 0}
    for store in plan.stores:
        if store.source is None and (missing := store.missing()):
            _encode(store, config)
            counts["encoded"] += missing
    drawn = [store for store in plan.stores if store.source is not None and store.missing()]
    counts["reprompted"] = sum(store.missing() for store in drawn)
    if drawn:
        cluster.connect()
        _reprompt_all(drawn)
    return counts


def _encode(store: NeededStore, config: SweepConfig) -> None:
    # Kept beside the store: the images that are wanted are a part of their set.
    config.stores.mkdir(parents=True, exist_ok=True)
    manifest = config.stores / f"{store.root.name}.images.parquet"
    store.images.items.to_parquet(manifest)
    job = EncodeConfig(
        input=str(manifest),
        store=store.root,
        chain=store.chain,
        keep_reference_tokens=True,
        gpus_per_actor=config.gpus_per_trial,
        runs=config.runs,
    )
    try:
        encode(job)
    except PartlyFailed as error:  # each is a row of every evaluation
        _log.warning("%s: %s", store.root, error)


def _reprompt_all(drawn: Sequence[NeededStore]) -> None:
    progress = Progress(len(drawn), "stores", _log)
    _log.info("other prompts from stored tokens: %d stores", len(drawn))
    waiting = [_reprompt.remote(store.source, store.root, store.chain, store.images.ids) for store in drawn]
    while waiting:
        done, waiting = ray.wait(waiting)
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StoreError):
                raise error.cause from error
            raise
        progress.add()
    progress.close()


@ray.remote(num_cpus=1)
def _reprompt(source: Path, target: Path, chain: ChainConfig, images: tuple[str, ...]) -> None:
    reprompt_images(PromptStore(source), target, chain, images)
