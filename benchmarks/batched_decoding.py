"""Time the batched mask decoder against the plain loop over the stock decoder, on ragged prompt sets.

    python benchmarks/batched_decoding.py            sixteen images of the nano size, forward and backward
    python benchmarks/batched_decoding.py --quick    fewer repetitions and shorter prompt sets

Both do the same work and give the same masks (checked): the ratio is what padding and masking save or cost.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from s3pot.sam import PromptableSam, build_sam
from s3pot.sam.preprocess import token_centers_xy

BATCH = 16
MOST_PROMPTS, QUICK_MOST_PROMPTS = 300, 60
REPETITIONS, QUICK_REPETITIONS = 10, 2


def main() -> None:
    """Measure and print the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="prove that it runs; numbers mean little")
    arguments.add_argument("--threads", type=int, default=None, help="threads of PyTorch (default: its own choice)")
    options = arguments.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sam = PromptableSam(build_sam("nano")).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    most = QUICK_MOST_PROMPTS if options.quick else MOST_PROMPTS
    counts = torch.randint(1, most + 1, (BATCH,), generator=generator)
    ids = torch.randint(0, sam.token_grid[0] * sam.token_grid[1], (BATCH, int(counts.max())), generator=generator)
    polarity = torch.randint(0, 2, ids.shape, generator=generator)
    valid = torch.arange(ids.shape[1])[None] < counts[:, None]
    tokens = torch.randn(BATCH, sam.embed_dim, *sam.token_grid, generator=generator)

    def batched() -> Tensor:
        return sam.decode(tokens, sam.embed_prompts(ids, polarity), valid)

    def looped() -> Tensor:
        return torch.cat([decode_stock(sam, tokens[row], ids[row, :n], polarity[row, :n]) for row, n in rows])

    rows = list(enumerate(counts.tolist()))
    with torch.no_grad():
        difference = (batched() - looped()).abs().max().item()
    if difference > 1e-3:
        raise SystemExit(f"masks differ by {difference:.2g}: the comparison means nothing")
    print(f"{BATCH} nano images, {counts.min()} to {counts.max()} prompts, {torch.get_num_threads()} threads")
    repetitions = QUICK_REPETITIONS if options.quick else REPETITIONS
    for name, backward in (("forward", False), ("forward + backward", True)):
        tokens.requires_grad_(backward)
        seconds = [best_seconds(decode, backward, repetitions) for decode in (looped, batched)]
        print(
            f"{name:>18}: stock loop {1e3 * seconds[0]:7.1f} ms, batched {1e3 * seconds[1]:7.1f} ms,"
            f" ratio {seconds[0] / seconds[1]:.2f}"
        )


def decode_stock(sam: PromptableSam, image_tokens: Tensor, ids: Tensor, polarity: Tensor) -> Tensor:
    """Decode one image as a user of `segment_anything` would; (1, 4h, 4w) logits."""
    points = token_centers_xy(ids[None], sam.token_grid[1], sam.patch)
    sparse, dense = sam.sam.prompt_encoder(points=(points, polarity[None]), boxes=None, masks=None)
    masks, _ = sam.sam.mask_decoder(
        image_embeddings=image_tokens[None],
        image_pe=sam.sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return masks[:, 0]


def best_seconds(decode: Callable[[], Tensor], backward: bool, repetitions: int) -> float:
    """Return the best of several runs: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            masks = decode()
        if backward:
            masks.square().mean().backward()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
