"""Weight initialisation."""

from __future__ import annotations

import numpy as np

from common.validate import Stream, stream


def kaiming_initializer(
    Din: int,
    Dout: int,
    K: int | None = None,
    relu: bool = True,
    *,
    rng: Stream = None,
    dtype: type = np.float64,
) -> np.ndarray:
    """Normal weights of variance gain / fan_in, so that signals keep their size from layer to layer.

    He, Zhang, Ren, Sun, Delving deep into rectifiers (2015).

    Args:
        Din, Dout: numbers (or channels) in and out.
        K: None for an affine layer, else the height and width of a convolution's filters.
        relu: whether a ReLU follows; it halves the mean square, which gain = 2 makes up for (else gain = 1).
        rng: RandomState or seed of the weights; None = NumPy's global stream.
        dtype: of the weights.
    Returns:
        (Din, Dout) for an affine layer with fan_in = Din, (Dout, Din, K, K) for a convolution with fan_in = Din K^2.
    Raises:
        ValueError: a size below 1.
    """
    if min(Din, Dout, 1 if K is None else K) < 1:
        raise ValueError(f"Din, Dout and K must be at least 1, got {Din}, {Dout}, {K}")
    ### BEGIN SOLUTION convolutional_networks, 10
    gain = 2.0 if relu else 1.0
    shape, fan_in = ((Din, Dout), Din) if K is None else ((Dout, Din, K, K), Din * K * K)
    weights = np.sqrt(gain / fan_in) * stream(rng).standard_normal(shape)
    ### END SOLUTION
    return weights.astype(dtype)
