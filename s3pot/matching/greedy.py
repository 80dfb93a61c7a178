"""Greedy matching of image tokens to reference face tokens [S3POT §3.3, Alg. 1], exact and without the printed loop.

The printed loop takes the best remaining entry of the score matrix, once per column. Rows and columns of that matrix
rank each other by one strict order, (-score, row, column); for such rankings the loop's result is the only stable
matching, so any order of offers arrives at it. We let columns offer: every column without a row offers itself to the
best row that would still take it, every row keeps its best offer, and whoever is turned away or displaced tries again.
The offers of all images of a batch are settled in one vectorised round; a typical 64x64 grid needs some dozens of
rounds instead of 1,600 steps. Rounds that remove every mutually best pair give the same matching, but search the whole
remaining matrix both ways each time; `benchmarks/greedy_matching.py` measures us against them and against the loop.

The bookkeeping runs in numpy on the host, whatever device computed the scores: it is integer work on short arrays, and
the same scores then give the same matching everywhere.

Departure: Alg. 1 subtracts full-grid ids from ids counted inside the face mask (lines 13-14). We keep full-grid ids
throughout (`split_matches`).

Legend: B images, R rows (image tokens), C columns (reference face tokens), N = B * C.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_LOW_HALF = np.int64(0xFFFFFFFF)
_UNTAKEN = np.int64(np.iinfo(np.int64).min)
_CLOSED = np.int64(np.iinfo(np.int64).max)
# Entries of its ranking a column looks at per round when rows have moved out of its reach, and how often rankings are
# sorted on demand before all that are missing are sorted at once. Both from measurement.
_LOOKAHEAD = 16
_SORTS_ON_DEMAND = 16
_SORT_CHUNK_ENTRIES = 1 << 16


def greedy_match(
    scores: Float32[Tensor, "b r c"],
    row_valid: Bool[Tensor, "b r"] | None = None,
    column_valid: Bool[Tensor, "b c"] | None = None,
) -> Int64[Tensor, "b c"]:
    """Match every column to a row as the printed loop of Algorithm 1 does, ties by (-score, row, column).

    Args:
        scores: Similarity of row and column. Fastest when `scores.transpose(1, 2)` is contiguous.
        row_valid: False for rows that take no part (padding); None means all take part.
        column_valid: The same for columns.

    Returns:
        The row matched to each column; -1 for columns that take no part and, where an image has more columns than rows,
        for the columns that went without.

    Raises:
        ValueError: When a score that takes part is NaN or infinite, or scores are not float32.
    """
    if scores.dtype != torch.float32:
        raise ValueError(f"scores must be float32, got {scores.dtype}")
    images, rows, columns = scores.shape
    if scores.numel() == 0:
        return torch.full((images, columns), -1, dtype=torch.int64, device=scores.device)
    by_column = scores.detach().transpose(1, 2).contiguous().cpu()
    if row_valid is not None and not bool(row_valid.all()):
        by_column = by_column.masked_fill(~row_valid.cpu()[:, None, :], torch.finfo(torch.float32).min)
    entering = np.ones(images * columns, bool) if column_valid is None else column_valid.cpu().numpy().reshape(-1)
    table = by_column.numpy().reshape(images * columns, rows)
    _require_finite(table, entering)
    rounds = _Rounds.start(table, images, None if row_valid is None else row_valid.cpu().numpy())
    free = rounds.first(np.flatnonzero(entering))
    while len(free):
        free = rounds.next(free)
    return torch.from_numpy(rounds.matched_rows().reshape(images, columns)).to(scores.device)


def split_matches(
    matched_rows: Int64[Tensor, " c"], face_tokens: Bool[Tensor, " r"]
) -> tuple[Int64[Tensor, " o"], Int64[Tensor, " n"]]:
    """Read prompts off a matching: face tokens that a column was matched to are face prompts, the others occlusion.

    With one column per face token and enough rows, the number of occlusion prompts equals the number of matches that
    land outside the face.

    Args:
        matched_rows: Row ids on the full grid; -1 is ignored.
        face_tokens: M_f on the full grid.

    Returns:
        Occlusion prompts and face prompts, sorted full-grid ids.
    """
    matched = torch.zeros_like(face_tokens)
    matched[matched_rows[matched_rows >= 0]] = True
    return (face_tokens & ~matched).nonzero().flatten(), (face_tokens & matched).nonzero().flatten()


def _require_finite(table: Floats, entering: npt.NDArray[np.bool_]) -> None:
    # NaN propagates through min and max, so two passes see everything without a temporary of the table's size.
    finite = np.isfinite(table.min(axis=1)) & np.isfinite(table.max(axis=1))
    if not finite[entering].all():
        raise ValueError(f"scores must be finite, got NaN or infinity in {int((~finite[entering]).sum())} columns")


def _strict_order(scores: Floats, tie: Ints) -> Ints:
    """Return integers that order like (score, tie): score bits made monotone in the high half, tie in the low half."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 turns -0.0 into 0.0: equal scores, equal bits
    keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys <<= 32
    keys |= tie
    return keys


@dataclass(kw_only=True)
class _Rounds:
    """State of one call: what every row holds, and how far down its ranking every column is.

    Attributes:
        table: (N, R) scores, one row of the array per column of the matching.
        first_row: (N,) where the rows of a column's image begin among all B * R rows.
        column_tie: (N,) larger for the column that wins a tie.
        held: (B * R,) the offer a row holds, as a `_strict_order` key.
        holder: (B * R,) the column that made it, -1 for none.
        rankings: (N, R) rows of a column from worst to best, as keys; filled on demand.
        ranked: (N,) whether a column's ranking is filled.
        position: (N,) how many of its best rows a column has given up.
        sorts: Times rankings were sorted.
    """

    table: Floats
    first_row: Ints
    column_tie: Ints
    held: Ints
    holder: Ints
    rankings: Ints
    ranked: npt.NDArray[np.bool_]
    position: Ints
    sorts: int = 0

    @classmethod
    def start(cls, table: Floats, images: int, row_valid: npt.NDArray[np.bool_] | None) -> "_Rounds":
        """Begin with every row free and every column at the top of its ranking."""
        count, rows = table.shape
        columns = count // images
        held = np.full(images * rows, _UNTAKEN)
        if row_valid is not None:
            held[~row_valid.reshape(-1)] = _CLOSED
        return cls(
            table=table,
            first_row=np.repeat(np.arange(images, dtype=np.int64) * rows, columns),
            column_tie=np.tile(np.arange(columns - 1, -1, -1, dtype=np.int64), images),
            held=held,
            holder=np.full(images * rows, -1, np.int64),
            rankings=np.empty(table.shape, np.int64),
            ranked=np.zeros(count, bool),
            position=np.zeros(count, np.int64),
        )

    def first(self, free: Ints) -> Ints:
        """Let all columns offer to their best row, which needs no ranking; return those without a row."""
        rows = self.table.argmax(axis=1)[free]
        offers = _strict_order(self.table[free, rows], self.column_tie[free])
        return self._settle(free, self.first_row[free] + rows, offers)

    def next(self, free: Ints) -> Ints:
        """Let the columns without a row offer once more; return those without a row afterwards."""
        free = free[self.position[free] < self.table.shape[1]]  # a column at the end of its ranking goes without
        self._rank(free)
        rows, offers = self._entries(free, self.position[free])
        beaten = offers < self.held[rows]
        if beaten.any():
            self._skip(free[beaten])
        takers = ~beaten
        return np.concatenate([free[beaten], self._settle(free[takers], rows[takers], offers[takers])])

    def matched_rows(self) -> Ints:
        """Return the row of every column, counted inside its image, -1 for none."""
        matched = np.full(len(self.table), -1, np.int64)
        taken = np.flatnonzero(self.holder >= 0)
        matched[self.holder[taken]] = taken % self.table.shape[1]
        return matched

    def _settle(self, columns: Ints, rows: Ints, offers: Ints) -> Ints:
        """Keep the best offer per row; return the columns turned away or displaced, moved on to their next row."""
        np.maximum.at(self.held, rows, offers)
        won = self.held[rows] == offers
        taken = rows[won]
        displaced = self.holder[taken]
        self.holder[taken] = columns[won]
        losers = np.concatenate([columns[~won], displaced[displaced >= 0]])
        self.position[losers] += 1
        return losers

    def _entries(self, columns: Ints, positions: Ints) -> tuple[Ints, Ints]:
        """Return the row at a position of a column's ranking and the offer the column makes to it."""
        last = self.table.shape[1] - 1
        keys = self.rankings[columns, last - positions]
        return self.first_row[columns] + (last - (keys & _LOW_HALF)), (keys & ~_LOW_HALF) | self.column_tie[columns]

    def _skip(self, columns: Ints) -> None:
        """Move columns on to the next row that would take them, at most `_LOOKAHEAD` places."""
        ahead = self.position[columns][:, None] + np.arange(_LOOKAHEAD)
        rows, offers = self._entries(columns[:, None], np.minimum(ahead, self.table.shape[1] - 1))
        open_to = offers > self.held[rows]
        self.position[columns] += np.where(open_to.any(axis=1), open_to.argmax(axis=1), _LOOKAHEAD)

    def _rank(self, columns: Ints) -> None:
        """Fill the rankings of columns that have none yet."""
        missing = columns[~self.ranked[columns]]
        if not len(missing):
            return
        self.sorts += 1
        if self.sorts > _SORTS_ON_DEMAND:  # chains of displacements would otherwise sort one column per round
            missing = np.flatnonzero(~self.ranked)
        row_tie = np.arange(self.table.shape[1] - 1, -1, -1, dtype=np.int64)
        step = max(1, _SORT_CHUNK_ENTRIES // len(row_tie))  # keeps the temporaries in cache
        for begin in range(0, len(missing), step):
            part = missing[begin : begin + step]
            keys = _strict_order(self.table[part], row_tie)
            keys.sort(axis=1)
            self.rankings[part] = keys
        self.ranked[missing] = True
