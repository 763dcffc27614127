"""Sums over the features of a pair by their codes: what a GPU does with gather and scatter, on a CPU in one pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor


def pick(values: Tensor, codes: Tensor) -> Tensor:
    """picked[b, h, i, j] = sum over f of values[b, h, i, codes[b, i, j, f]].

    values (B, H, T, C) float32, codes (B, T, T, F) uint8 -> (B, H, T, T).
    """
    batch, heads, length, _ = values.shape
    picked = values.new_empty(batch, heads, length, length)
    if values.device.type == "cpu":
        _by_batch(_pick, values, codes, picked)
        return picked
    picked.zero_()
    for feature in range(codes.shape[-1]):
        index = codes[..., feature].long()[:, None].expand(picked.shape)
        picked += values.gather(3, index)
    return picked


def collect(weights: Tensor, codes: Tensor, n_codes: int) -> Tensor:
    """collected[b, h, i, c] = sum over j and f with codes[b, i, j, f] = c of weights[b, h, i, j].

    weights (B, H, T, T) float32, codes (B, T, T, F) uint8 -> (B, H, T, n_codes).
    """
    batch, heads, length, _ = weights.shape
    collected = weights.new_zeros(batch, heads, length, n_codes)
    if weights.device.type == "cpu":
        _by_batch(_collect, weights, codes, collected)
        return collected
    for feature in range(codes.shape[-1]):
        index = codes[..., feature].long()[:, None].expand(weights.shape)
        collected.scatter_add_(3, index, weights)
    return collected


def _by_batch(kernel, source: Tensor, codes: Tensor, result: Tensor) -> None:  # type: ignore[no-untyped-def]
    """Run a kernel on as many threads as torch has, each on its share of the batch: the same result for any number."""
    arrays = source.detach().contiguous().numpy(), codes.numpy(), result.numpy()
    threads = min(torch.get_num_threads(), len(codes))
    if threads <= 1:
        kernel(*arrays, 0, len(codes))
        return
    cuts = [len(codes) * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first, last: kernel(*arrays, first, last), cuts[:-1], cuts[1:]))


@numba.njit(nogil=True, cache=True)
def _pick(values, codes, picked, first, last):  # type: ignore[no-untyped-def]
    heads, length, features = values.shape[1], values.shape[2], codes.shape[3]
    for b in range(first, last):
        for i in range(length):
            for h in range(heads):
                row = values[b, h, i]
                for j in range(length):
                    total = row[codes[b, i, j, 0]]
                    for f in range(1, features):
                        total += row[codes[b, i, j, f]]
                    picked[b, h, i, j] = total


@numba.njit(nogil=True, cache=True)
def _collect(weights, codes, collected, first, last):  # type: ignore[no-untyped-def]
    heads, length, features = weights.shape[1], weights.shape[2], codes.shape[3]
    for b in range(first, last):
        for i in range(length):
            for h in range(heads):
                row = collected[b, h, i]
                for j in range(length):
                    weight = weights[b, h, i, j]
                    for f in range(features):
                        row[codes[b, i, j, f]] += weight


# -- comparing the actions of a past: each writes codes (B, T, T) from `start` on into `out`, entry [b, i, j] comparing
# action j with action i ----------------------------------------------------------------------------------------------


@numba.njit(nogil=True, cache=True)
def same_or_not(values, start, out):  # type: ignore[no-untyped-def]
    """values (B, T) int64: 0 different, 1 the same, 2 where either is unknown (-1)."""
    for b in range(values.shape[0]):
        for i in range(values.shape[1]):
            one = values[b, i]
            for j in range(values.shape[1]):
                other = values[b, j]
                out[b, i, j] = start + (2 if one < 0 or other < 0 else (1 if one == other else 0))


@numba.njit(nogil=True, cache=True)
def difference(values, cuts, start, out):  # type: ignore[no-untyped-def]
    """values (B, T) float32: the bucket of other - one between the ascending cuts; the last code where it is NaN."""
    for b in range(values.shape[0]):
        for i in range(values.shape[1]):
            for j in range(values.shape[1]):
                gap = values[b, j] - values[b, i]
                code = len(cuts) + 1
                if not np.isnan(gap):
                    code = 0
                    while code < len(cuts) and cuts[code] < gap:
                        code += 1
                out[b, i, j] = start + code


@numba.njit(nogil=True, cache=True)
def signed_distance(values, cuts, closed, start, out):  # type: ignore[no-untyped-def]
    """values (B, T) int64: the bucket of |other - one|, mirrored around the middle where other is less; `closed`: a
    distance on a cut belongs to the bucket above it.
    """
    middle = len(cuts)
    for b in range(values.shape[0]):
        for i in range(values.shape[1]):
            for j in range(values.shape[1]):
                gap = values[b, j] - values[b, i]
                size = abs(gap)
                code = 0
                while code < middle and (cuts[code] < size or (closed and cuts[code] == size)):
                    code += 1
                out[b, i, j] = start + (middle - code if gap < 0 else middle + code)


@numba.njit(nogil=True, cache=True)
def kinds_of_both(kinds, n_kinds, start, out):  # type: ignore[no-untyped-def]
    """kinds (B, T) int64: one * n_kinds + other."""
    for b in range(kinds.shape[0]):
        for i in range(kinds.shape[1]):
            for j in range(kinds.shape[1]):
                out[b, i, j] = start + kinds[b, i] * n_kinds + kinds[b, j]
