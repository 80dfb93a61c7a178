"""Time the drawing of one E4S picture against the loop that convolves the whole map once per region.

    python benchmarks/e4s_generation.py            1024 px, random weights of the released sizes, one thread
    python benchmarks/e4s_generation.py --quick    256 px, one repetition

Both give the same picture (checked). Each runs in a process of its own, so that peak memory is its own too. Seconds are
those of the processor: with one thread and nothing else running they are those of the clock. Operations are counted
while the code runs: a multiplication and an addition are two.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from s3pot.parsing.classes import CLASSES
from s3pot.reference.e4s.synthesis import Synthesis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.faces import draw_face
from tests.reference.e4s.literal import literal_generate

SIZE, QUICK_SIZE = 1024, 256
REGIONAL_LAYERS, QUICK_REGIONAL_LAYERS = 13, 9
REPETITIONS = {"literal": 1, "ours": 3}
TOLERANCE = 1e-4


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="prove that it runs; numbers mean little")
    arguments.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    arguments.add_argument("--form", choices=sorted(REPETITIONS), help=argparse.SUPPRESS)
    arguments.add_argument("--picture", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.form:
        print(json.dumps(measure(options.form, options.quick, options.picture)))
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = {form: Path(folder) / f"{form}.pt" for form in REPETITIONS}
        results = {form: run_alone(form, path) for form, path in pictures.items()}
        literal, ours = (torch.load(pictures[form], weights_only=True) for form in ("literal", "ours"))
    error = float((ours - literal).abs().max() / literal.std())
    if error > TOLERANCE:
        raise SystemExit(f"pictures differ by {error:.2g} of the standard deviation: the comparison means nothing")
    print(f"E4S, {literal.shape[-1]} px, {len(CLASSES)} regions, {options.threads} threads")
    for form, result in results.items():
        print(
            f"{form:>8}: {result['seconds']:6.2f} s, {result['operations'] / 1e9:7.1f} GFLOP,"
            f" peak memory {result['peak'] / 1e6:5.0f} MB, of which drawing {result['growth'] / 1e6:5.0f} MB"
        )
    ratio = {key: results["literal"][key] / results["ours"][key] for key in results["ours"]}
    print(
        f"   ratio: {ratio['seconds']:6.2f}  , {ratio['operations']:7.2f}      , peak memory {ratio['peak']:5.2f}   ,"
        f" of which drawing {ratio['growth']:5.2f}   , largest difference {error:.1g} of the standard deviation"
    )


def run_alone(form: str, picture: Path) -> dict[str, float]:
    """Measure one form in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--form", form, "--picture", str(picture)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(form: str, quick: bool, picture: Path) -> dict[str, float]:
    """Draw, save the picture, and return seconds, operations and bytes."""
    size, layers = (QUICK_SIZE, QUICK_REGIONAL_LAYERS) if quick else (SIZE, REGIONAL_LAYERS)
    torch.manual_seed(0)
    generator = Synthesis(size, 512, layers, mapping_layers=0).requires_grad_(False)
    codes = torch.randn(1, len(CLASSES), 2 * size.bit_length() - 4, 512)
    labels = torch.from_numpy(draw_face(512)[1])[None]

    def draw() -> Tensor:
        return literal_generate(generator, codes, labels, layers) if form == "literal" else generator(codes, labels)

    before = resident_bytes()
    drawn, operations = count_operations(draw)
    torch.save(drawn, picture)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = best_seconds(draw, 1 if quick else REPETITIONS[form])
    return {"seconds": seconds, "operations": operations, "peak": peak, "growth": peak - before}


def resident_bytes() -> int:
    """Return what the process holds in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def best_seconds(draw: Callable[[], Tensor], repetitions: int) -> float:
    """Return the best of several runs: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(repetitions):
        start = time.process_time()
        draw()
        best = min(best, time.process_time() - start)
    return best


def count_operations(draw: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Draw; count the operations of convolutions, of products of matrices and of the blur between regions."""

    def gathered_sum(weight: tuple[int, ...], indices: tuple[int, ...], *_: object, **__: object) -> int:
        return 2 * indices[0] * indices[1] * weight[1]

    bag = torch.ops.aten.embedding_bag
    with FlopCounterMode(display=False, custom_mapping={bag: gathered_sum}) as counter:
        drawn = draw()
    return drawn, counter.get_total_flops()


if __name__ == "__main__":
    main()
