"""Time SAM's image encoder as the chain runs it against the stock one, and compare their embeddings.

    python benchmarks/sam_encoding.py               vit_b, two pictures of 1024 px
    python benchmarks/sam_encoding.py --quick       one picture, one repetition

Stock: segment-anything as it comes, one picture after the other, fp32. Ours: attention without its explicit matrix, the
pictures as one batch, fp32 and bf16. Weights are random; relative positions are drawn too, since stock ones start at
zero and would show nothing. Each form runs in a process of its own: the peak memory of a process never sinks again.
Ratios are those of processor time, which a busy machine hardly changes.
"""

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from segment_anything import build_sam_vit_b

from s3pot.sam import PromptableSam, build_sam

FORMS = {"stock fp32": "fp32", "ours fp32": "fp32", "ours bf16": "bf16"}
REPETITIONS, PICTURES = 2, 2
# What bf16 may cost: 8 bits of mantissa through twelve layers.
SMALLEST_COSINE = {"ours fp32": 0.999999, "ours bf16": 0.99}


def main() -> None:
    """Measure and print the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="prove that it runs; numbers mean little")
    arguments.add_argument("--threads", type=int, default=None, help="threads of PyTorch (default: its own choice)")
    options = arguments.parse_args()
    threads = options.threads or torch.get_num_threads()
    pictures, repetitions = (1, 1) if options.quick else (PICTURES, REPETITIONS)
    print(f"vit_b, {pictures} pictures of 1024 px, {threads} threads, best of {repetitions}; per picture:")
    found = {}
    for form in FORMS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found[form] = process.submit(encode, form, threads, pictures, repetitions).result()
        seconds, processor, peak, _ = found[form]
        print(f"  {form:>10}: {seconds:6.2f} s, processor {processor:6.2f} s, {peak:6.0f} MB above the loaded model")
    _, stock_seconds, stock_peak, stock = found["stock fp32"]
    for form, smallest in SMALLEST_COSINE.items():
        _, seconds, peak, ours = found[form]
        error = np.abs(ours - stock) / stock.std()
        cosine = float((ours * stock).sum() / np.linalg.norm(ours) / np.linalg.norm(stock))
        print(
            f"{form} against stock: time {stock_seconds / seconds:.2f}, memory {stock_peak / peak:.1f} (ratios); "
            f"error in standard deviations: max {error.max():.1e}, mean {error.mean():.1e}; cosine {cosine:.7f}"
        )
        if cosine < smallest:
            raise SystemExit("the embeddings differ: the comparison means nothing")


def encode(form: str, threads: int, pictures: int, repetitions: int) -> tuple[float, float, float, np.ndarray]:
    """Encode; least seconds and processor time per picture, peak MB above the loaded model, image tokens."""
    torch.set_num_threads(threads)
    stock = form.startswith("stock")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sam = build_sam_vit_b() if stock else build_sam("vit_b", seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, weight in sorted(sam.named_parameters()):
        if "rel_pos" in name or name.endswith("pos_embed"):
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    model = PromptableSam(sam, precision=FORMS[form])
    images = list(np.random.default_rng(0).integers(0, 256, (pictures, 1024, 1024, 3), dtype=np.uint8))
    batches = [[image] for image in images] if stock else [images]
    before, best, least = peak_memory(), float("inf"), float("inf")
    for _ in range(repetitions):
        start, processor = time.perf_counter(), time.process_time()
        tokens = torch.cat([model.encode(batch)[0] for batch in batches])
        best, least = min(best, time.perf_counter() - start), min(least, time.process_time() - processor)
    return best / pictures, least / pictures, peak_memory() - before, tokens.double().numpy()


def peak_memory() -> float:
    """Return the most memory this process ever held, in MB (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
