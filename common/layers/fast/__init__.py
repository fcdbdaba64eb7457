"""Fast convolution and max-pooling: Cython, OpenMP and BLAS where the extension is built, else NumPy.

BACKEND says which one runs ("cython" or "numpy"). The environment variable WORKBOOK_FAST chooses one of them.
"""

from common.layers.fast.backend import BACKEND, HAVE_CYTHON
from common.layers.fast.columns import col2im_6d_cython, col2im_cython, im2col_cython
from common.layers.fast.layers import (
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
)

__all__ = [
    "BACKEND",
    "HAVE_CYTHON",
    "col2im_6d_cython",
    "col2im_cython",
    "conv_backward_fast",
    "conv_forward_fast",
    "im2col_cython",
    "max_pool_backward_fast",
    "max_pool_forward_fast",
]
