"""What `s3pot serve` costs over the models it serves: requests per second and latency under load, and memory.

The same photographs, the embedded models, one thread per process that holds them. The bare loop decodes photographs and
runs `predict_batch` over as many at once as the server does; the server receives them from 32 clients in another
process, and answers with run lengths. First one process against one replica, then two against two: on a machine of two
cores the first leaves a core to the HTTP side and the clients, the second does not.

    python benchmarks/serve_load.py            --quick: few photographs
"""

import argparse
import io
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import ray
import requests
import torch
from PIL import Image

from ray_jobs import serve
from ray_jobs.serve_config import ServeConfig
from ray_jobs.serve_example import example_photograph
from ray_jobs.serve_limits import ServeLimits
from s3pot.images import decode_image
from s3pot.segmenter import OcclusionSegmenter

BATCH, CLIENTS, PORT = 8, 32, 8099
_PROCESSES = multiprocessing.get_context("spawn")


def photographs() -> list[bytes]:
    """Return the example as it is, and as large as a small camera makes it; JPEG."""
    example = Image.open(io.BytesIO(example_photograph()))
    large = io.BytesIO()
    example.resize((1536, 1536), Image.Resampling.BICUBIC).save(large, format="JPEG", quality=90)
    return [example_photograph(), large.getvalue()]


def bare_process(number: int, barrier: Barrier, times: Any) -> None:
    """Compute photographs in a loop, beside others that do; report when it began and ended."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    segmenter, sent = OcclusionSegmenter.load(), photographs()
    segmenter.predict_batch([decode_image(data, "warm-up") for data in sent * (BATCH // 2)])
    barrier.wait()
    started = time.time()
    for _ in range(number // BATCH):
        segmenter.predict_batch([decode_image(data, "photograph") for data in sent * (BATCH // 2)])
    times.put((started, time.time()))


def bare_rate(number: int, processes: int) -> float:
    """Return photographs per second of so many bare loops."""
    barrier, times = _PROCESSES.Barrier(processes), _PROCESSES.Queue()
    share = number // processes
    running = [_PROCESSES.Process(target=bare_process, args=(share, barrier, times)) for _ in range(processes)]
    for process in running:
        process.start()
    spans = [times.get() for _ in running]
    for process in running:
        process.join()
    return share // BATCH * BATCH * processes / (max(end for _, end in spans) - min(start for start, _ in spans))


def load_process(url: str, number: int, clients: int, answers: Any) -> None:
    """Send photographs from so many clients at once, each the next when it has its answer; report latencies."""
    sent = photographs()

    def client(first: int) -> list[float]:
        latencies = []
        with requests.Session() as session:
            for index in range(first, number, clients):
                started = time.perf_counter()
                answer = session.post(f"{url}segment", data=sent[index % 2], headers={"Content-Type": "image/jpeg"})
                latencies.append(time.perf_counter() - started)
                assert answer.status_code == 200, answer.text
        return latencies

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        latencies = [one for some in pool.map(client, range(clients)) for one in some]
    answers.put((number / (time.perf_counter() - started), latencies))


def served(url: str, number: int, clients: int = CLIENTS) -> tuple[float, list[float]]:
    """Return photographs per second, and the latency of each in seconds."""
    answers = _PROCESSES.Queue()
    process = _PROCESSES.Process(target=load_process, args=(url, number, clients, answers))
    process.start()
    result = answers.get()
    process.join()
    return result


def memory() -> dict[str, float]:
    """Return the memory of Serve's processes in MB; shared pages count in parts."""
    found: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().decode().strip("\0 ")
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for part in ("Models", "Ingress", "ProxyActor", "ServeController"):
            if name.startswith("ray::") and part in name:
                pss = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
                found[part] = found.get(part, 0.0) + pss / 1024
    return found


def compare(replicas: int, number: int, rounds: int) -> None:
    """Print what serving costs with so many replicas."""
    # On a machine that has other things to do as well, nobody is to be sent away.
    config = ServeConfig(port=PORT, replicas=replicas, batch_size=BATCH, limits=ServeLimits(answer_seconds=600))
    serve.start(config)
    served(config.url, 2 * CLIENTS)
    ways: dict[str, Callable[[], tuple[float, Sequence[float]]]] = {
        f"bare loop, {replicas} process(es)": lambda: (bare_rate(number, replicas), []),
        f"served, {replicas} replica(s), {CLIENTS} clients": lambda: served(config.url, number),
    }
    best: dict[str, tuple[float, Sequence[float]]] = {}
    # In turn, best of rounds: whatever else the machine does falls on both.
    for _ in range(rounds):
        for way, measure in ways.items():
            best[way] = max(best.get(way, (0.0, [])), measure(), key=lambda measured: measured[0])
    for way, (rate, latencies) in best.items():
        late = "".join(f"   p{share} {np.percentile(latencies, share):.2f} s" for share in (50, 95) if len(latencies))
        print(f"{way:<38}{rate:>7.2f} photographs/s{late}")
    bare, (through, _) = next(iter(best.values()))[0], list(best.values())[1]
    print(f"serving reaches {100 * through / bare:.0f} % of the bare throughput", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="The server against the bare models.")
    parser.add_argument("--quick", action="store_true", help="few photographs")
    quick = parser.parse_args().quick
    number, rounds = (32, 1) if quick else (64, 2)
    logging.disable(logging.WARNING)
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    print(f"load before: {os.getloadavg()[0]:.1f}")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    compare(1, number, rounds)
    _, alone = served(f"http://127.0.0.1:{PORT}/", 16, clients=1)
    print(f"one client alone: p50 {np.percentile(alone, 50):.2f} s, p95 {np.percentile(alone, 95):.2f} s")
    print("memory: " + ", ".join(f"{part} {size:.0f} MB" for part, size in sorted(memory().items())))
    if not quick:
        compare(2, number, rounds)
    serve.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
