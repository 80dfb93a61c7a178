"""Convolutions in which every output pixel has the style of its own region, each computed once.

The released generator convolves the whole map once per region and keeps that region's pixels of each result. The same
numbers need one convolution: the style scales the input channels, so the patch under an output pixel is multiplied by
the scales of *that pixel's* region and meets the one shared weight. (Scaling each input pixel by its own region is not
the same: a patch that crosses an outline would mix two styles.)

A layer that upsamples is a transposed convolution, then a blur of 4 x 4 pixels. An output pixel needs the transposed
convolution in the style of its own region at 16 places, so near an outline a place is computed for every region whose
pixels see it: once per pair of region and place, about 1.1 times as many as there are places.

Legend: features (H, W, C) float, pixel by pixel; labels (H, W) int64 region ids;
scales (R, C) float, one row per region.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from s3pot.reference.e4s.upfirdn import TAPS

# Values of the patches that exist at one time: in a CPU they should stay in its cache, a GPU wants much work at once.
_PATCH_VALUES_CPU, _PATCH_VALUES_GPU = 2**20, 2**26


def regional_conv(
    features: Float[Tensor, "h w c"],
    weight: Float[Tensor, "o c k k"],
    scales: Float[Tensor, "r c"],
    labels: Int64[Tensor, "h w"],
) -> Float[Tensor, "h w o"]:
    """Convolve with zero padding, the input scaled by the style of the output pixel's region.

    Args:
        features: (H, W, C) float.
        weight: (O, C, k, k) float, k odd.
        scales: (R, C) float.
        labels: (H, W) int64 ids below R.

    Returns:
        (H, W, O) float, not demodulated.
    """
    height, width, _ = features.shape
    outputs, _, side, _ = weight.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(outputs, -1).T
    margin = side // 2
    padded = functional.pad(features, (0, 0, margin, margin, margin, margin)) if margin else features
    windows = padded.unfold(0, side, 1).unfold(1, side, 1).permute(0, 1, 3, 4, 2)  # (H, W, k, k, C), a view
    result = features.new_empty(height, width, outputs)
    chunks = _chunks(height, width * matrix.shape[0], features.device)
    patches = features.new_empty(chunks[0].stop, *windows.shape[1:])
    for rows in chunks:
        count = len(labels[rows])
        torch.mul(windows[rows], scales[labels[rows]][:, :, None, None], out=patches[:count])
        torch.mm(patches[:count].view(-1, matrix.shape[0]), matrix, out=result[rows].view(-1, outputs))
    return result


def regional_up_conv(
    features: Float[Tensor, "h w c"],
    weight: Float[Tensor, "o c 3 3"],
    scales: Float[Tensor, "r c"],
    labels: Int64[Tensor, "2*h 2*w"],
    kernel: Float[Tensor, "4 4"],
) -> Float[Tensor, "2*h 2*w o"]:
    """Double the resolution: transposed convolution with stride 2 and blur, in the style of the output pixel's region.

    Args:
        features: (H, W, C) float.
        weight: (O, C, 3, 3) float.
        scales: (R, C) float.
        labels: (2H, 2W) int64 ids below R.
        kernel: filter of the blur.

    Returns:
        (2H, 2W, O) float, not demodulated.
    """
    _, width, channels = features.shape
    needed = _seen_places(labels, len(scales))
    slots = torch.full(needed.shape, -1, dtype=torch.int64, device=labels.device)
    padded = functional.pad(features, (0, 0, 1, 1, 1, 1)).view(-1, channels)
    values = features.new_empty(int(needed.sum()), weight.shape[0])
    taps = weight.permute(0, 2, 3, 1).contiguous()
    start = 0
    for odd_y in (0, 1):
        for odd_x in (0, 1):
            phase = needed[:, odd_y::2, odd_x::2]
            region, y, x = phase.nonzero(as_tuple=True)
            end = start + len(region)
            slots[:, odd_y::2, odd_x::2][region, y, x] = torch.arange(start, end, device=labels.device)
            matrix, offsets = _phase_taps(taps, odd_y, odd_x, width + 2)
            places = ((y + 1) * (width + 2) + x + 1)[:, None] - offsets
            _convolve_places(padded, places, scales, region, matrix, values[start:end])
            start = end
    return _blur_own_region(values, slots, labels, kernel)


def _chunks(count: int, values_each: int, device: torch.device) -> list[slice]:
    """Split `count` things of `values_each` values so that the patches of a part fit their place."""
    limit = _PATCH_VALUES_CPU if device.type == "cpu" else _PATCH_VALUES_GPU
    step = max(1, limit // values_each)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _convolve_places(
    padded: Tensor, places: Tensor, scales: Tensor, region: Tensor, matrix: Tensor, result: Tensor
) -> None:
    """Multiply gathered patches by their region's scales and the weights.

    Args:
        padded: (P, C) input pixels.
        places: (N, taps) which of them form each patch.
        scales: (R, C).
        region: (N,) region of each patch.
        matrix: (taps C, O) weights.
        result: (N, O), written.
    """
    taps, channels = places.shape[1], padded.shape[1]
    chunks = _chunks(len(places), matrix.shape[0], padded.device)
    buffer = padded.new_empty(chunks[0].stop * taps, channels)
    for chunk in chunks:
        flat = places[chunk].flatten()
        patches = torch.index_select(padded, 0, flat, out=buffer[: len(flat)]).view(-1, taps, channels)
        patches *= scales[region[chunk]][:, None]
        torch.mm(patches.flatten(1), matrix, out=result[chunk])


def _seen_places(labels: Tensor, regions: int) -> Tensor:
    """Return (R, 2H+1, 2W+1) bool: which places of the unblurred map the pixels of each region see."""
    masks = functional.one_hot(labels, regions).permute(2, 0, 1).float()
    return functional.max_pool2d(functional.pad(masks, (2, 2, 2, 2)), TAPS, stride=1) > 0


def _phase_taps(taps: Tensor, odd_y: int, odd_x: int, row: int) -> tuple[Tensor, Tensor]:
    """Return the taps that meet in places of one parity: their (taps C, O) matrix and how far back their inputs lie.

    Input pixel i reaches the places 2i, 2i+1 and 2i+2 through the taps 0, 1 and 2: an even place sees the pixels i and
    i-1 through the taps 0 and 2, an odd one the pixel i through tap 1.
    """
    taps_y, taps_x = (((0, 0), (2, 1)) if not odd else ((1, 0),) for odd in (odd_y, odd_x))
    parts, offsets = [], []
    for tap_y, back_y in taps_y:
        for tap_x, back_x in taps_x:
            parts.append(taps[:, tap_y, tap_x])
            offsets.append(back_y * row + back_x)
    return torch.cat(parts, dim=1).T, torch.tensor(offsets, device=taps.device)


def _blur_own_region(values: Tensor, slots: Tensor, labels: Tensor, kernel: Tensor) -> Tensor:
    """Blur, each output pixel over the values of its own region; (2H, 2W, O)."""
    height, width = labels.shape
    zero = len(values)
    values = torch.cat([values, values.new_zeros(1, values.shape[1])])
    padded = functional.pad(torch.where(slots < 0, zero, slots), (1, 1, 1, 1), value=zero)
    windows = padded.unfold(1, TAPS, 1).unfold(2, TAPS, 1)  # (R, 2H, 2W, 4, 4)
    y = torch.arange(height, device=labels.device)[:, None]
    x = torch.arange(width, device=labels.device)
    own = windows[labels, y, x].view(-1, TAPS * TAPS)
    factors = kernel.flip((0, 1)).to(values).flatten().expand(len(own), -1)
    blurred = functional.embedding_bag(own, values, mode="sum", per_sample_weights=factors.contiguous())
    return blurred.view(height, width, -1)
