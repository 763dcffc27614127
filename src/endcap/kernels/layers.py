"""A small network over rows of numbers: two hidden layers with GELU, without what a framework costs a call.

A framework shares even a few hundred rows out among threads that wait for each other by turning, so that on a busy
machine an answer waits for a thread that has no turn. A row goes through both layers at once here, in one thread. The
error function is a quotient of polynomials over [-4, 4] (that of Eigen), off by some 1e-7 at most.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

LOG, SIGNED, PLAIN = range(3)  # how a column is read: log(max(x, 0) + unit), asinh(x / unit), as it is
ROOT_HALF, HALF, ONE, FAR = map(np.float32, (np.sqrt(0.5), 0.5, 1.0, 4.0))
# of the error function, the highest power first
N13, N11, N9, N7, N5, N3, N1 = map(np.float32, (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
))  # fmt: skip
D8, D6, D4, D2, D0 = map(np.float32, (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
))  # fmt: skip

Floats = NDArray[np.float32]


class Layers(NamedTuple):
    """What a network has learnt.

    Attributes:
        form: (c,) int8, `LOG`, `SIGNED` or `PLAIN`; unit, mean, spread: (c,), each column is read, then standardised;
        first, second, last: weights (c, h), (h, g) and (g,), with the biases (h,), (g,) and (1,).
    """

    form: NDArray[np.int8]
    unit: Floats
    mean: Floats
    spread: Floats
    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    last: Floats
    last_bias: Floats

    def weigh(self, rows: Floats) -> Floats:
        """(n,) what the network makes of rows (n, c)."""
        return _weigh(*self, np.ascontiguousarray(rows, np.float32))


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nnan", "nsz"})
def _weigh(  # type: ignore[no-untyped-def]
    form, unit, mean, spread, first, first_bias, second, second_bias, last, last_bias, rows
):
    found, read = np.empty(len(rows), np.float32), np.empty(len(form), np.float32)
    low, high = np.empty(len(first_bias), np.float32), np.empty(len(second_bias), np.float32)
    for row in range(len(rows)):
        for column in range(len(form)):
            x = rows[row, column]
            if form[column] == LOG:
                x = np.log(max(x, np.float32(0)) + unit[column])
            elif form[column] == SIGNED:
                x = np.arcsinh(x / unit[column])
            read[column] = (x - mean[column]) / spread[column]
        _layer(read, first, first_bias, low)
        _layer(low, second, second_bias, high)
        total = last_bias[0]
        for place in range(len(high)):
            total += high[place] * last[place]
        found[row] = total
    return found


@numba.njit(nogil=True, inline="always")
def _layer(x, weights, bias, out):  # type: ignore[no-untyped-def]
    """GELU of x times weights and the bias; four columns at a time, since each pass reads and writes all of `out`."""
    out[:] = bias
    begin = len(x) % 4
    for column in range(begin):
        for place in range(len(out)):
            out[place] += x[column] * weights[column, place]
    for column in range(begin, len(x), 4):
        a, b, c, d = x[column], x[column + 1], x[column + 2], x[column + 3]
        of_a, of_b, of_c, of_d = weights[column], weights[column + 1], weights[column + 2], weights[column + 3]
        for place in range(len(out)):
            out[place] += a * of_a[place] + b * of_b[place] + c * of_c[place] + d * of_d[place]
    for place in range(len(out)):
        at = min(max(out[place] * ROOT_HALF, -FAR), FAR)
        q = at * at
        over = at * ((((((N13 * q + N11) * q + N9) * q + N7) * q + N5) * q + N3) * q + N1)
        under = (((D8 * q + D6) * q + D4) * q + D2) * q + D0
        out[place] *= HALF * (ONE + over / under)
