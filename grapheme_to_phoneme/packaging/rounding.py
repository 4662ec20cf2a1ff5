"""How the weights of a product of integers are rounded.

Processors without an instruction for products of four bytes (VNNI, AMX) add the products of two
neighbours of a column in 16 bits, and cut off what does not fit. So that a file says the same
everywhere, its weights are rounded in steps that leave nothing to cut off.
"""

import numpy as np
from numpy.typing import NDArray

#: Steps that two neighbours of a column may come to before they are rounded, in absolute value:
#: half a step each more, times an activation of at most 255, is at most 32,640 of 32,767.
MOST_STEPS = 127


def column_scales(weights: NDArray) -> NDArray:
    """Return the steps that each column of a product's weights is rounded in, (columns,).

    They are the smallest of which two neighbours of one sign, those in rows 0 and 1, 2 and 3 and
    so on, come to at most ``MOST_STEPS`` together.

    Args:
        weights: (inputs, columns).
    """
    rows, columns = weights.shape
    pairs = np.pad(weights, ((0, rows % 2), (0, 0))).reshape(-1, 2, columns)
    sums = np.maximum(pairs.clip(min=0).sum(axis=1), (-pairs).clip(min=0).sum(axis=1))
    return np.maximum(sums.max(axis=0) / MOST_STEPS, np.finfo(np.float32).tiny)
