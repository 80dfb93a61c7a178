"""Time the image encoder of SAM with efficient attention against the stock one, and compare their embeddings.

    python benchmarks/sam_attention.py               vit_b, one picture of 1024 px, fp32
    python benchmarks/sam_attention.py --quick       one repetition

Weights are random; relative positions are drawn too, since stock ones start at zero and would show nothing. Either
encoder runs in a process of its own: the peak memory of a process never sinks again. The ratio is that of processor
time, which a busy machine hardly changes.
"""

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from s3pot.sam import PromptableSam, build_sam
from s3pot.sam.efficient_attention import use_efficient_attention

REPETITIONS, QUICK_REPETITIONS = 2, 1


def main() -> None:
    """Measure and print the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="prove that it runs; numbers mean little")
    arguments.add_argument("--threads", type=int, default=None, help="threads of PyTorch (default: its own choice)")
    options = arguments.parse_args()
    threads = options.threads or torch.get_num_threads()
    repetitions = QUICK_REPETITIONS if options.quick else REPETITIONS
    print(f"vit_b, one picture of 1024 px, fp32, {threads} threads, best of {repetitions}")
    found = {}
    for name in ("stock", "efficient"):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as process:
            found[name] = process.submit(encode, name == "efficient", threads, repetitions).result()
        seconds, processor, peak, _ = found[name]
        print(f"{name:>10}: {seconds:6.2f} s, processor {processor:6.2f} s, {peak:6.0f} MB above the loaded model")
    (_, stock_seconds, stock_peak, stock), (_, seconds, peak, ours) = found["stock"], found["efficient"]
    error = np.abs(ours - stock) / stock.std()
    cosine = float((ours * stock).sum() / np.linalg.norm(ours) / np.linalg.norm(stock))
    print(
        f"     ratio: time {stock_seconds / seconds:.2f}, memory {stock_peak / peak:.1f}; error in standard deviations:"
        f" max {error.max():.1e}, mean {error.mean():.1e}; cosine {cosine:.8f}"
    )
    if error.max() > 1e-3:
        raise SystemExit("the embeddings differ: the comparison means nothing")


def encode(efficient: bool, threads: int, repetitions: int) -> tuple[float, float, float, np.ndarray]:
    """Encode one picture; least seconds, least processor time, peak MB above the loaded model, image tokens."""
    torch.set_num_threads(threads)
    sam = build_sam("vit_b")
    generator = torch.Generator().manual_seed(0)
    for name, weight in sam.named_parameters():
        if "rel_pos" in name or name.endswith("pos_embed"):
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    model = PromptableSam(use_efficient_attention(sam) if efficient else sam)
    picture = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    before, best, least = peak_memory(), float("inf"), float("inf")
    for _ in range(repetitions):
        start, processor = time.perf_counter(), time.process_time()
        tokens, _ = model.encode([picture])
        best, least = min(best, time.perf_counter() - start), min(least, time.process_time() - processor)
    return best, least, peak_memory() - before, tokens.double().numpy()


def peak_memory() -> float:
    """Return the most memory this process ever held, in MB (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
