"""Measure the greedy matching against the plain alternatives: `python benchmarks/greedy_matching.py [--quick]`.

The alternatives run in the same process on the same scores: the loop of Alg. 1 as anybody would write it with care
(argmax over the whole matrix, row and column crossed out in place), and rounds that remove every mutually best pair.
The script fails when the matchings differ.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from s3pot.matching.greedy import greedy_match

FACE_SHARE = 0.39  # of the tokens of an aligned crop


def loop(scores_rc: Tensor) -> Tensor:
    """Match as Alg. 1 is printed."""
    scores = scores_rc.numpy().copy()
    rows, columns = scores.shape
    matched = np.full(columns, -1)
    for _ in range(min(rows, columns)):
        row, column = divmod(int(scores.argmax()), columns)
        matched[column] = row
        scores[row], scores[:, column] = -np.inf, -np.inf
    return torch.from_numpy(matched)


def mutual_rounds(scores_rc: Tensor) -> Tensor:
    """Match by removing all mutually best pairs of the remaining matrix at once."""
    matched = torch.full((scores_rc.shape[1],), -1)
    rows, columns = torch.arange(scores_rc.shape[0]), torch.arange(scores_rc.shape[1])
    while len(rows) and len(columns):
        best_row = scores_rc.argmax(dim=0)
        mutual = scores_rc.argmax(dim=1)[best_row] == torch.arange(len(columns))
        matched[columns[mutual]] = rows[best_row[mutual]]
        kept = torch.ones(len(rows), dtype=torch.bool)
        kept[best_row[mutual]] = False
        scores_rc, rows, columns = scores_rc[kept][:, ~mutual], rows[kept], columns[~mutual]
    return matched


def rounds_of_offers(scores_rc: Tensor) -> Tensor:
    """Match as the library does."""
    return greedy_match(scores_rc[None])[0]


def smooth_tokens(side: int, channels: int, generator: torch.Generator) -> Tensor:
    """Random tokens that change over about four places, as (channels, side, side)."""
    coarse = torch.randn(1, channels, side // 4, side // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]


def typical(side: int, noise: float = 0.3) -> Tensor:
    """Cosines of a picture whose face is covered in part with the face tokens of a noisy reference."""
    generator = torch.Generator().manual_seed(0)
    image = smooth_tokens(side, 128, generator) + torch.randn(128, 1, 1, generator=generator)
    reference = image + noise * smooth_tokens(side, 128, generator)
    reference += 0.3 * noise * torch.randn(128, side, side, generator=generator)
    y, x = torch.meshgrid(torch.arange(side) / side - 0.5, torch.arange(side) / side - 0.5, indexing="ij")
    covered = (y - 0.15) ** 2 + (x - 0.1) ** 2 < 0.04
    occluder = smooth_tokens(side, 128, generator) + torch.randn(128, 1, 1, generator=generator)
    image = torch.where(covered, occluder, image)
    face = (y / 0.4) ** 2 + (x / (FACE_SHARE / 0.4 / np.pi)) ** 2 < 1
    image_ct, reference_ct = (torch.nn.functional.normalize(t.flatten(1), dim=0) for t in (image, reference))
    return (reference_ct[:, face.flatten()].T @ image_ct).T


def one_pair_per_round(side: int) -> Tensor:
    """All columns agree on the order of rows and all rows on that of columns."""
    rows, columns = side * side, int(FACE_SHARE * side * side)
    along_rows, along_columns = torch.arange(rows, 0, -1.0), torch.arange(columns, 0, -1.0)
    return (along_rows[None, :] + along_columns[:, None] / (2 * columns)).T


def displacement_chain(side: int) -> Tensor:
    """Fall along 00, 01, 11, 12, ...: every column but the first loses its best row to the one before."""
    rows, columns = side * side, int(FACE_SHARE * side * side)
    scores = torch.full((columns, rows), -1.0)
    steps = torch.arange(columns)
    scores[steps, steps] = 2.0 * (columns - steps)
    scores[steps[1:], steps[:-1]] = 2.0 * (columns - steps[:-1]) - 1
    return scores.T


def best_of(repeats: int, match: Callable[[Tensor], Tensor], scores_rc: Tensor) -> tuple[Tensor, float]:
    """Return the matching and the shortest time in milliseconds."""
    shortest = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        matched = match(scores_rc)
        shortest = min(shortest, time.perf_counter() - begin)
    return matched, 1000 * shortest


def compare(name: str, scores_rc: Tensor, *, with_mutual: bool) -> float:
    """Print one line of the table; return how many times faster than the loop the library is."""
    ours, ours_ms = best_of(5, rounds_of_offers, scores_rc)
    printed, loop_ms = best_of(1 if scores_rc.numel() > 10**6 else 3, loop, scores_rc)
    if not torch.equal(ours, printed):
        raise SystemExit(f"{name}: the matching differs from the loop of Algorithm 1")
    mutual = "-"
    if with_mutual:
        found, mutual_ms = best_of(1, mutual_rounds, scores_rc)
        if not torch.equal(found, printed):
            raise SystemExit(f"{name}: mutually best pairs differ from the loop of Algorithm 1")
        mutual = f"{mutual_ms:.1f}"
    shape = f"{scores_rc.shape[0]} x {scores_rc.shape[1]}"
    print(f"{name:<28}{shape:>13}{loop_ms:>11.1f}{mutual:>11}{ours_ms:>11.1f}{loop_ms / ours_ms:>9.1f}x", flush=True)
    return loop_ms / ours_ms


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Greedy matching against the printed loop.")
    parser.add_argument("--quick", action="store_true", help="the 32 x 32 grid only")
    sides = (32,) if parser.parse_args().quick else (32, 64)
    print(f"{'scores':<28}{'rows x cols':>13}{'loop ms':>11}{'mutual ms':>11}{'ours ms':>11}{'ratio':>10}")
    for side in sides:
        compare(f"{side} x {side} typical", typical(side), with_mutual=True)
        compare(f"{side} x {side} poor reference", typical(side, noise=1.5), with_mutual=True)
        compare(f"{side} x {side} one pair a round", one_pair_per_round(side), with_mutual=side == 32)
        compare(f"{side} x {side} displacements", displacement_chain(side), with_mutual=side == 32)


if __name__ == "__main__":
    main()
