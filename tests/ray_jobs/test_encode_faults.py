"""What an encoding run survives, on real clusters: after each fault the same rows as an undisturbed run.

One image is one batch, one shard and one manifest part, so that parts count how often an image was encoded.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from ray_jobs import encode_stages
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.encode_stages import EncodeActor, Work
from s3pot.chain import ChainConfig
from s3pot.images import write_png
from s3pot.store import atomic_files
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import textured_face

pytestmark = pytest.mark.chaos

IMAGES = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        write_png(folder / f"{number}.png", textured_face(number)[0])
    return folder


def settings(photos: Path, place: Path) -> EncodeConfig:
    chain = ChainConfig(alignment="none")
    return EncodeConfig(
        input=str(photos), store=place / "store", chain=chain, batch_size=1, actors=1, runs=place / "runs"
    )


@pytest.fixture(scope="module")
def undisturbed(photos: Path, ray_cluster: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> PromptStore:
    return encode(settings(photos, tmp_path_factory.mktemp("undisturbed")))


def encodings(store: Path) -> list[str]:
    """Ids of all manifest parts: an image that was encoded twice is there twice."""
    parts = sorted((store / "manifest").glob("*.parquet"))
    return sorted(name for part in parts for name in pq.read_table(part, columns=["id"])["id"].to_pylist())


def assert_same(store: Path, expected: PromptStore) -> None:
    """Rows and tokens are those of the undisturbed run; there is nothing else."""
    mine, theirs = PromptStore(store), expected
    columns = [name for name in theirs.rows().columns if name != "seconds"]
    pd.testing.assert_frame_equal(mine.rows(columns), theirs.rows(columns))
    for one, other in zip(mine.records(), theirs.records(), strict=True):
        assert torch.equal(one.image_tokens, other.image_tokens)
    leftovers = [path.name for path in store.rglob("*") if path.name.startswith(".") or path.name == "listing.parquet"]
    assert leftovers == []


class Dying(EncodeActor):
    """An actor whose process is killed at its third image: once, for it leaves a mark."""

    moment = ""

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__(work, threads)
        self.calls, self.mark = 0, work.writing.store / ".killed"

    def die(self) -> None:
        if self.calls == 3 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        self.calls += 1
        if self.moment == "before anything":
            self.die()
        append = self.store.append

        def append_or_die(rows: list[dict[str, Any]]) -> None:
            if self.moment == "between shard and row":
                self.die()
            append(rows)

        self.store.append = append_or_die  # type: ignore[method-assign]
        done = super().__call__(batch)
        self.store.append = append  # type: ignore[method-assign]
        if self.moment == "before the answer":
            self.die()
        return done


class DyingAtOnce(Dying):
    moment = "before anything"


class DyingBetween(Dying):
    moment = "between shard and row"


class DyingAtTheEnd(Dying):
    moment = "before the answer"


@pytest.mark.parametrize(("actor", "twice"), [(DyingAtOnce, 0), (DyingBetween, 0), (DyingAtTheEnd, 1)])
def test_an_actor_is_killed(
    actor: type[Dying],
    twice: int,
    undisturbed: PromptStore,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode_stages, "EncodeActor", actor)
    store = encode(settings(photos, tmp_path)).root
    (store / ".killed").unlink()  # it was killed
    assert len(encodings(store)) == IMAGES + twice
    assert_same(store, undisturbed)


class Full(EncodeActor):
    """An actor that meets a full disk at its third image, until the mark is there."""

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__(work, threads)
        self.calls, self.mark = 0, work.writing.store.parent / "room"

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        self.calls += 1
        if self.calls < 3 or self.mark.exists():
            return super().__call__(batch)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic_files.Path, "write_bytes", write_half)
            return super().__call__(batch)


def write_half(path: Path, data: bytes) -> int:
    """Write as a file system does that becomes full."""
    with path.open("wb") as opened:
        opened.write(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_disk_is_full(
    undisturbed: PromptStore, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_stages, "EncodeActor", Full)
    config = settings(photos, tmp_path)
    with pytest.raises(StoreError, match=r"cannot be written: No space left on device .* run the command again"):
        encode(config)
    assert len(encodings(config.store)) == 2
    assert len(list((config.store / "shards").iterdir())) == 2, "nothing half-written is left"
    (tmp_path / "room").touch()
    encode(config)
    assert len(encodings(config.store)) == IMAGES
    assert_same(config.store, undisturbed)


def command(config: EncodeConfig) -> list[str]:
    words = [f"input={config.input}", f"store={config.store}", f"runs={config.runs}"]
    return [sys.executable, "-m", "ray_jobs.encode", *words, "chain.alignment=none", "batch_size=1", "actors=1"]


def wait_for_parts(store: Path, number: int, driver: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while len(list((store / "manifest").glob("[0-9]*.parquet"))) < number:
        assert driver.poll() is None, "the driver ended by itself"
        assert time.monotonic() < end, "nothing was encoded"
        time.sleep(0.02)


def test_the_driver_is_killed(
    undisturbed: PromptStore, photos: Path, ray_cluster: dict[str, object], repository: Path, tmp_path: Path
) -> None:
    config = settings(photos, tmp_path)
    environment = os.environ | {"RAY_ADDRESS": str(ray_cluster["address"]), "PYTHONPATH": str(repository)}
    with subprocess.Popen(command(config), cwd=repository, env=environment, stderr=subprocess.DEVNULL) as driver:
        wait_for_parts(config.store, 2, driver)
        driver.kill()
    done = encodings(config.store)
    assert 2 <= len(done) < IMAGES
    encode(config)
    # The actor of the killed driver may have ended what it was at, at most one image.
    assert len(encodings(config.store)) <= IMAGES + 1
    for path in config.store.rglob(".*.part"):
        path.unlink()  # of a shard in flight; `s3pot store verify --repair` removes it
    assert_same(config.store, undisturbed)


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster whose head runs nothing, and a node of two CPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_the_node_of_the_actors_is_removed(
    undisturbed: PromptStore, two_nodes: Any, photos: Path, repository: Path, tmp_path: Path
) -> None:
    config = settings(photos, tmp_path)
    node = two_nodes.add_node(num_cpus=2)
    environment = os.environ | {"RAY_ADDRESS": two_nodes.address, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command(config), cwd=repository, env=environment, stderr=subprocess.DEVNULL) as driver:
        wait_for_parts(config.store, 2, driver)
        two_nodes.remove_node(node, allow_graceful=False)
        assert len(encodings(config.store)) < IMAGES
        two_nodes.add_node(num_cpus=2)
        assert driver.wait(timeout=180) == 0
    assert len(encodings(config.store)) <= IMAGES + 1
    for path in config.store.rglob(".*.part"):
        path.unlink()
    assert_same(config.store, undisturbed)
