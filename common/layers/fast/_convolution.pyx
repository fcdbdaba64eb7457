# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the convolution: loops without Python, shared out among threads.

The convolution is a matrix product, weights (F, C*HH*WW) times columns (C*HH*WW, H'*W'). The product is BLAS's work;
what is left to do well is memory traffic. Hence the columns are made block by block, each block small enough to stay
in the core's second-level cache until it is multiplied, and the backward pass makes them again instead of keeping
them: making them costs less than reading them back from main memory.

Threads share out the blocks (forward) or the pictures (backward, where the blocks of one picture meet in dx). A share
is a fixed range of them, so the result does not depend on who is faster.
N, C, H, W, F, HH, WW, stride and pad mean what they mean in `conv_forward_naive`; OH x OW is the output.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport dgemm, dgemv, sgemm, sgemv

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static int most_threads(void) { return omp_get_max_threads(); }
    #else
    static int most_threads(void) { return 1; }
    #endif
    """
    int most_threads() nogil


def max_threads() -> int:
    """What OpenMP would use: OMP_NUM_THREADS or the number of cores; 1 if compiled without OpenMP."""
    return most_threads()


cdef int checked_threads(int threads) except -1:
    """threads, if OpenMP can be asked for so many: it ends the process where it cannot start one."""
    if not 1 <= threads <= 1024:
        raise ValueError(f"threads must lie between 1 and 1024, got {threads}")
    return threads


# Sizes and blocks ---------------------------------------------------------------------------------------------

cdef Py_ssize_t LARGEST = 2147483647  # of the padded height and width: no product of two sizes overflows then
cdef Py_ssize_t COLUMNS = 256  # of a block, about: enough for BLAS to run at full speed
cdef Py_ssize_t BYTES = 262144  # of a block's columns, and of its product: half a megabyte for each thread


cdef struct Sizes:
    Py_ssize_t N, C, H, W  # the input
    Py_ssize_t F, HH, WW, stride, pad  # the filters
    Py_ssize_t OH, OW  # the output
    Py_ssize_t pictures, rows  # of a full block: whole pictures, or output rows of one
    Py_ssize_t channels  # whose columns are made at a time


cdef struct Block:
    Py_ssize_t n, pictures, y, rows  # the first picture and their number, the first output row and their number
    Py_ssize_t area, width  # columns of one picture, and of all


cdef Sizes sizes_of(const Py_ssize_t *x, const Py_ssize_t *w, Py_ssize_t stride, Py_ssize_t pad,
                    Py_ssize_t itemsize) except *:
    """All sizes, from the shapes of x and w. What makes no convolution is refused: the loops would not notice."""
    cdef Sizes s
    s.N, s.C, s.H, s.W = x[0], x[1], x[2], x[3]
    s.F, s.HH, s.WW = w[0], w[2], w[3]
    s.stride, s.pad = stride, pad
    if min(s.N, s.C, s.H, s.W, s.F, s.HH, s.WW, stride) < 1 or pad < 0 or w[1] != s.C:
        raise ValueError(f"no convolution: x {(s.N, s.C, s.H, s.W)}, w {(s.F, w[1], s.HH, s.WW)}, {stride=}, {pad=}")
    if max(s.H, s.W, pad) > LARGEST or not (s.HH <= s.H + 2 * pad <= LARGEST and s.WW <= s.W + 2 * pad <= LARGEST):
        raise ValueError(f"filters {s.HH} x {s.WW} do not fit pictures {s.H} x {s.W} with padding {pad}, or too large")
    s.OH, s.OW = 1 + (s.H + 2 * pad - s.HH) // stride, 1 + (s.W + 2 * pad - s.WW) // stride
    cdef Py_ssize_t numbers = BYTES // itemsize, columns = max(1, min(COLUMNS, numbers // s.F))
    s.rows = min(s.OH, max(1, columns // s.OW))
    s.pictures = min(s.N, max(1, columns // (s.OH * s.OW)))
    cdef Py_ssize_t fitting = max(1, numbers // (s.HH * s.WW * s.pictures * s.rows * s.OW))
    s.channels = parts(s.C, parts(s.C, fitting))  # in parts of equal size
    return s


cdef inline Py_ssize_t parts(Py_ssize_t whole, Py_ssize_t size) noexcept nogil:
    """How many parts of at most that size there are."""
    return (whole + size - 1) // size


cdef inline Py_ssize_t number_of_blocks(Sizes s, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Into which the pictures begin .. end - 1 fall."""
    return parts(end - begin, s.pictures) * parts(s.OH, s.rows)


cdef inline Block block(Sizes s, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t index) noexcept nogil:
    """One of these blocks; the last in a picture, and the last of all, may be smaller than the others."""
    cdef Block at
    at.n = begin + index // parts(s.OH, s.rows) * s.pictures
    at.y = index % parts(s.OH, s.rows) * s.rows
    at.pictures, at.rows = min(s.pictures, end - at.n), min(s.rows, s.OH - at.y)
    at.area = at.rows * s.OW
    at.width = at.pictures * at.area
    return at


# Columns ------------------------------------------------------------------------------------------------------


cdef inline void inside(Py_ssize_t offset, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t places,
                        Py_ssize_t *begin, Py_ssize_t *end) noexcept nogil:
    """The places 0 <= begin <= o < end with a pixel under them: 0 <= offset + o * stride < size."""
    begin[0] = min(places, 0 if offset >= 0 else (stride - 1 - offset) // stride)
    end[0] = max(begin[0], min(places, 0 if offset >= size else (size - 1 - offset) // stride + 1))


cdef inline void copy(const floating *pixels, floating *columns, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(n):
        columns[o] = pixels[o * stride]


cdef inline void fill_with_zeros(floating *numbers, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(n):
        numbers[o] = 0


cdef inline void copy_row(const floating *pixels, floating *columns, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    """`copy`; where the compiler knows the stride, it makes better code."""
    if stride == 1:
        copy(pixels, columns, n, 1)
    elif stride == 2:
        copy(pixels, columns, n, 2)
    else:
        copy(pixels, columns, n, stride)


cdef inline void clear_edges(floating *row, Py_ssize_t OW, Py_ssize_t rows, Py_ssize_t top, Py_ssize_t bottom,
                             Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Zeros around the places top .. bottom - 1, begin .. end - 1 of rows x OW."""
    cdef Py_ssize_t y, o
    fill_with_zeros(row, top * OW)
    fill_with_zeros(row + bottom * OW, (rows - bottom) * OW)
    for o in range(begin):
        for y in range(top, bottom):
            row[y * OW + o] = 0
    for o in range(end, OW):
        for y in range(top, bottom):
            row[y * OW + o] = 0


cdef inline void add_back(floating *pixels, const floating *columns, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(n):
        pixels[o * stride] += columns[o]


cdef void im2col(const floating *x, floating *columns, Sizes s, Block at, Py_ssize_t first,
                 Py_ssize_t channels) noexcept nogil:
    """columns[(c, i, j), (n, y, o)] = the pixel that weight (c, i, j) meets at place (y, o) of picture n, or 0.

    For the places of a block and for `channels` channels from `first` on. 0 stands for what lies beyond the edge.
    """
    cdef Py_ssize_t n, c, i, j, y, begin, end, top, bottom
    cdef const floating *plane
    cdef const floating *pixels
    cdef floating *row
    cdef floating *places
    cdef bint at_once = s.stride == 1 and s.OW == s.W  # all rows in one copy; what wraps around is cleared afterwards
    for n in range(at.pictures):
        for c in range(channels):
            plane = x + ((at.n + n) * s.C + first + c) * s.H * s.W
            for i in range(s.HH):
                inside(at.y * s.stride + i - s.pad, s.stride, s.H, at.rows, &top, &bottom)
                for j in range(s.WW):
                    inside(j - s.pad, s.stride, s.W, s.OW, &begin, &end)
                    row = columns + ((c * s.HH + i) * s.WW + j) * at.width + n * at.area
                    pixels = plane + ((at.y + top) * s.stride + i - s.pad) * s.W + begin * s.stride + j - s.pad
                    places = row + top * s.OW + begin
                    if at_once and top < bottom and begin < end:
                        copy(pixels, places, (bottom - top - 1) * s.OW + end - begin, 1)
                    else:
                        for y in range(bottom - top):
                            copy_row(pixels + y * s.stride * s.W, places + y * s.OW, end - begin, s.stride)
                    clear_edges(row, s.OW, at.rows, top, bottom, begin, end)


cdef void col2im(floating *dx, const floating *columns, Sizes s, Block at, Py_ssize_t first,
                 Py_ssize_t channels) noexcept nogil:
    """The adjoint of `im2col`: each pixel of dx receives the sum of all the columns' numbers that it was copied to."""
    cdef Py_ssize_t n, c, i, j, y, begin, end, top, bottom
    cdef const floating *places
    cdef const floating *row
    cdef floating *plane
    cdef floating *pixels
    for n in range(at.pictures):
        for c in range(channels):
            plane = dx + ((at.n + n) * s.C + first + c) * s.H * s.W
            for i in range(s.HH):
                inside(at.y * s.stride + i - s.pad, s.stride, s.H, at.rows, &top, &bottom)
                for j in range(s.WW):
                    inside(j - s.pad, s.stride, s.W, s.OW, &begin, &end)
                    row = columns + ((c * s.HH + i) * s.WW + j) * at.width + n * at.area
                    pixels = plane + ((at.y + top) * s.stride + i - s.pad) * s.W + begin * s.stride + j - s.pad
                    places = row + top * s.OW + begin
                    if s.stride == 1 and end - begin == s.OW == s.W:  # all rows at once
                        add_back(pixels, places, (bottom - top) * s.OW, 1)
                        continue
                    for y in range(bottom - top):
                        if s.stride == 1:
                            add_back(pixels + y * s.W, places + y * s.OW, end - begin, 1)
                        else:
                            add_back(pixels + y * s.stride * s.W, places + y * s.OW, end - begin, s.stride)


# Matrix products ----------------------------------------------------------------------------------------------


cdef inline void matmul(bint a_t, bint b_t, Py_ssize_t M, Py_ssize_t N, Py_ssize_t K, const floating *a,
                        Py_ssize_t lda, const floating *b, Py_ssize_t ldb, bint add, floating *c,
                        Py_ssize_t ldc) noexcept nogil:
    """c (M, N) = a (M, K) @ b (K, N), or += if add; row-major. With a_t or b_t, that one is stored transposed.

    BLAS thinks in columns: what we call c is c.T to it, so we ask for c.T = b.T @ a.T.
    """
    cdef int m = M, n = N, k = K, la = lda, lb = ldb, lc = ldc
    cdef char ta = b'T' if a_t else b'N', tb = b'T' if b_t else b'N'
    cdef floating one = 1, beta = add
    if floating is float:
        sgemm(&tb, &ta, &n, &m, &k, &one, <float *> b, &lb, <float *> a, &la, &beta, c, &lc)
    else:
        dgemm(&tb, &ta, &n, &m, &k, &one, <double *> b, &lb, <double *> a, &la, &beta, c, &lc)


cdef inline void add_row_sums(Py_ssize_t M, Py_ssize_t N, const floating *a, const floating *ones,
                              floating *sums) noexcept nogil:
    """sums (M,) += a (M, N) @ ones (N,)."""
    cdef int m = M, n = N, step = 1
    cdef char t = b'T'
    cdef floating one = 1
    if floating is float:
        sgemv(&t, &n, &m, &one, <float *> a, &n, <float *> ones, &step, &one, sums, &step)
    else:
        dgemv(&t, &n, &m, &one, <double *> a, &n, <double *> ones, &step, &one, sums, &step)


# Convolution --------------------------------------------------------------------------------------------------


cdef void forward_share(const floating *x, const floating *w, const floating *b, floating *out, floating *columns,
                        floating *product, Sizes s, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """out of the blocks begin .. end - 1."""
    cdef Py_ssize_t i, c, part, channels, window = s.HH * s.WW
    cdef Block at
    for i in range(begin, end):
        at = block(s, 0, s.N, i)
        for part in range(parts(s.C, s.channels)):
            c = part * s.channels
            channels = min(s.channels, s.C - c)
            im2col(x, columns, s, at, c, channels)
            matmul(False, False, s.F, at.width, channels * window, w + c * window, s.C * window, columns, at.width,
                   part > 0, product, at.width)
        put_product(product, b, out, s, at)


cdef void put_product(const floating *product, const floating *b, floating *out, Sizes s, Block at) noexcept nogil:
    """out of a block = its product (F, pictures, rows * OW) + b."""
    cdef Py_ssize_t k, f, o
    cdef floating *target
    for k in range(at.pictures):
        for f in range(s.F):
            target = out + (((at.n + k) * s.F + f) * s.OH + at.y) * s.OW
            for o in range(at.area):
                target[o] = product[f * at.width + k * at.area + o] + b[f]


cdef void get_product(const floating *dout, floating *product, Sizes s, Block at) noexcept nogil:
    """product (F, pictures, rows * OW) = dout of a block."""
    cdef Py_ssize_t k, f, o
    cdef const floating *source
    for k in range(at.pictures):
        for f in range(s.F):
            source = dout + (((at.n + k) * s.F + f) * s.OH + at.y) * s.OW
            for o in range(at.area):
                product[f * at.width + k * at.area + o] = source[o]


cdef void backward_share(const floating *dout, const floating *x, const floating *w, floating *dx, floating *dw,
                         floating *db, floating *columns, floating *product, const floating *ones, Sizes s,
                         Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """dx of the pictures begin .. end - 1, and what they add to dw and db."""
    cdef Py_ssize_t i, c, part, channels, depth, window = s.HH * s.WW
    cdef Block at
    fill_with_zeros(dx + begin * s.C * s.H * s.W, (end - begin) * s.C * s.H * s.W)
    for i in range(number_of_blocks(s, begin, end)):
        at = block(s, begin, end, i)
        get_product(dout, product, s, at)
        add_row_sums(s.F, at.width, product, ones, db)
        for part in range(parts(s.C, s.channels)):
            c = part * s.channels
            channels = min(s.channels, s.C - c)
            depth = channels * window
            im2col(x, columns, s, at, c, channels)
            matmul(False, True, s.F, depth, at.width, product, at.width, columns, at.width,
                   True, dw + c * window, s.C * window)  # dw += dout columns.T
            matmul(True, False, depth, at.width, s.F, w + c * window, s.C * window, product, at.width,
                   False, columns, at.width)  # gradients of the columns = w.T dout
            col2im(dx, columns, s, at, c, channels)


def conv_forward(const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] w not None,
                 const floating[::1] b not None, Py_ssize_t stride, Py_ssize_t pad, int threads):
    """out (N, F, H', W')."""
    cdef Sizes s = sizes_of(x.shape, w.shape, stride, pad, sizeof(floating))
    if b.shape[0] != s.F:
        raise ValueError(f"b must hold {s.F} numbers, got {b.shape[0]}")
    cdef Py_ssize_t blocks = number_of_blocks(s, 0, s.N)
    cdef int t, T = max(1, min(checked_threads(threads), blocks))
    dtype = np.float32 if floating is float else np.float64
    cdef floating[:, :, :, ::1] out = np.empty((s.N, s.F, s.OH, s.OW), dtype)
    cdef Py_ssize_t width = s.pictures * s.rows * s.OW
    cdef floating[:, ::1] columns = np.empty((T, s.channels * s.HH * s.WW * width), dtype)
    cdef floating[:, ::1] product = np.empty((T, s.F * width), dtype)
    for t in prange(T, nogil=True, num_threads=T, schedule="static", chunksize=1):
        forward_share(&x[0, 0, 0, 0], &w[0, 0, 0, 0], &b[0], &out[0, 0, 0, 0], &columns[t, 0], &product[t, 0], s,
                      t * blocks // T, (t + 1) * blocks // T)
    return out.base


def conv_backward(const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] x not None,
                  const floating[:, :, :, ::1] w not None, Py_ssize_t stride, Py_ssize_t pad, int threads):
    """dx, dw, db of the shapes of x, w, b."""
    cdef Sizes s = sizes_of(x.shape, w.shape, stride, pad, sizeof(floating))
    if dout.shape[0] != s.N or dout.shape[1] != s.F or dout.shape[2] != s.OH or dout.shape[3] != s.OW:
        raise ValueError(f"dout must have the shape {(s.N, s.F, s.OH, s.OW)}")
    cdef int t, T = max(1, min(checked_threads(threads), s.N))
    dtype = np.float32 if floating is float else np.float64
    cdef floating[:, :, :, ::1] dx = np.empty((s.N, s.C, s.H, s.W), dtype)
    cdef floating[:, :, :, ::1] dw = np.zeros((s.F, s.C, s.HH, s.WW), dtype)  # of the first share
    cdef floating[:, :, :, :, ::1] more = np.zeros((T - 1, s.F, s.C, s.HH, s.WW), dtype)  # of the others
    cdef floating[:, ::1] db = np.zeros((T, s.F), dtype)
    cdef Py_ssize_t width = s.pictures * s.rows * s.OW
    cdef floating[::1] ones = np.ones(width, dtype)
    cdef floating[:, ::1] columns = np.empty((T, s.channels * s.HH * s.WW * width), dtype)
    cdef floating[:, ::1] product = np.empty((T, s.F * width), dtype)
    for t in prange(T, nogil=True, num_threads=T, schedule="static", chunksize=1):
        backward_share(&dout[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], &dx[0, 0, 0, 0],
                       &more[t - 1, 0, 0, 0, 0] if t else &dw[0, 0, 0, 0], &db[t, 0], &columns[t, 0], &product[t, 0],
                       &ones[0], s, t * s.N // T, (t + 1) * s.N // T)
    total = dw.base
    for share in more.base:
        total += share
    return dx.base, total, db.base.sum(axis=0)


# The courses' columns: the whole batch at once -----------------------------------------------------------------


cdef Block whole_batch(Sizes s):
    """All in one block."""
    s.pictures, s.rows = s.N, s.OH
    return block(s, 0, s.N, 0)


def im2col_6d(const floating[:, :, :, ::1] x not None, Py_ssize_t HH, Py_ssize_t WW, Py_ssize_t pad, Py_ssize_t stride):
    """Columns (C, HH, WW, N, H', W')."""
    cdef Py_ssize_t *w = [1, x.shape[1], HH, WW]
    cdef Sizes s = sizes_of(x.shape, w, stride, pad, sizeof(floating))
    dtype = np.float32 if floating is float else np.float64
    cdef floating[:, :, :, :, :, ::1] columns = np.empty((s.C, HH, WW, s.N, s.OH, s.OW), dtype)
    im2col(&x[0, 0, 0, 0], &columns[0, 0, 0, 0, 0, 0], s, whole_batch(s), 0, s.C)
    return columns.base


def col2im_6d(const floating[:, :, :, :, :, ::1] columns not None, Py_ssize_t H, Py_ssize_t W, Py_ssize_t pad,
              Py_ssize_t stride):
    """Pictures (N, C, H, W): the sums of all columns (C, HH, WW, N, H', W') that a pixel was copied to."""
    cdef Py_ssize_t *x = [columns.shape[3], columns.shape[0], H, W]
    cdef Py_ssize_t *w = [1, columns.shape[0], columns.shape[1], columns.shape[2]]
    cdef Sizes s = sizes_of(x, w, stride, pad, sizeof(floating))
    if columns.shape[4] != s.OH or columns.shape[5] != s.OW:
        raise ValueError(f"columns must be those of {s.OH} x {s.OW} places")
    cdef floating[:, :, :, ::1] dx = np.zeros((s.N, s.C, H, W), np.float32 if floating is float else np.float64)
    col2im(&dx[0, 0, 0, 0], &columns[0, 0, 0, 0, 0, 0], s, whole_batch(s), 0, s.C)
    return dx.base
