# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of max-pooling: each thread takes some of the planes, the channels of the pictures.

The first of the largest numbers counts, and a NaN is larger than all. `x != x` is true for NaN alone. One plain choice
after the other, without `or`, is what the compiler can do for 8 or 16 places at once; hence the loops over the places
are the inner ones.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange


cdef inline floating larger(floating first, floating later) noexcept nogil:
    cdef floating value = first if later <= first else later
    return first if first != first else value


cdef inline floating kept(floating gradient, floating first, floating later) noexcept nogil:
    """The share of `first` in the gradient of larger(first, later): all or nothing."""
    cdef floating share = gradient if later <= first else 0
    return gradient if first != first else share


cdef inline floating taken(floating gradient, floating first, floating later) noexcept nogil:
    """The share of `later`."""
    cdef floating share = 0 if later <= first else gradient
    return 0 if first != first else share


# 2 x 2 ---------------------------------------------------------------------------------------------------------


cdef void halve(const floating *upper, const floating *lower, floating *out, Py_ssize_t n) noexcept nogil:
    """2x2 pooling of two rows."""
    cdef Py_ssize_t o
    for o in range(n):
        out[o] = larger(larger(upper[2 * o], upper[2 * o + 1]), larger(lower[2 * o], lower[2 * o + 1]))


cdef void halve_back(const floating *upper, const floating *lower, const floating *dout, floating *dupper,
                     floating *dlower, Py_ssize_t n) noexcept nogil:
    """The gradients of the two rows."""
    cdef Py_ssize_t o
    cdef floating a, b, c, d, above, below
    for o in range(n):
        a, b, c, d = upper[2 * o], upper[2 * o + 1], lower[2 * o], lower[2 * o + 1]
        above = kept(dout[o], larger(a, b), larger(c, d))
        below = taken(dout[o], larger(a, b), larger(c, d))
        dupper[2 * o], dupper[2 * o + 1] = kept(above, a, b), taken(above, a, b)
        dlower[2 * o], dlower[2 * o + 1] = kept(below, c, d), taken(below, c, d)


# Windows of any size -------------------------------------------------------------------------------------------


cdef inline void larger_of_each(floating *best, const floating *pixels, Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(n):
        best[o] = larger(best[o], pixels[o * stride])


cdef void pool_row(const floating *corner, floating *out, Py_ssize_t W, Py_ssize_t height, Py_ssize_t width,
                   Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    """out (n,), the largest numbers of the windows whose first corners are `corner`, `corner + stride` ..."""
    cdef Py_ssize_t i, j, o
    for o in range(n):
        out[o] = corner[o * stride]
    for i in range(height):
        for j in range(width):
            if stride == 2:  # where the compiler knows the stride, it makes better code
                larger_of_each(out, corner + i * W + j, 2, n)
            elif stride == 1:
                larger_of_each(out, corner + i * W + j, 1, n)
            else:
                larger_of_each(out, corner + i * W + j, stride, n)


cdef enum:
    PLACES = 64  # that are worked on together


cdef inline void place_of_larger(floating *best, int *where, const floating *pixels, int place, Py_ssize_t stride,
                                 Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t o
    cdef int before, winner
    cdef floating first, later
    for o in range(n):
        before, first, later = where[o], best[o], pixels[o * stride]
        winner = before if later <= first else place
        where[o] = before if first != first else winner
        best[o] = larger(first, later)


cdef inline void clear(floating *numbers, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t o
    for o in range(n):
        numbers[o] = 0


cdef void pool_places_back(const floating *corner, const floating *dout, floating *dx, Py_ssize_t W,
                           Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    """Add dout (n,), n <= PLACES, to dx where the windows' largest numbers stand."""
    cdef Py_ssize_t i, j, o
    cdef floating[PLACES] best
    cdef int[PLACES] where
    for o in range(n):
        best[o] = corner[o * stride]
        where[o] = 0
    for i in range(height):
        for j in range(width):
            if stride == 2:
                place_of_larger(best, where, corner + i * W + j, i * W + j, 2, n)
            elif stride == 1:
                place_of_larger(best, where, corner + i * W + j, i * W + j, 1, n)
            else:
                place_of_larger(best, where, corner + i * W + j, i * W + j, stride, n)
    for o in range(n):
        dx[o * stride + where[o]] += dout[o]


cdef void pool_row_back(const floating *corner, const floating *dout, floating *dx, Py_ssize_t W, Py_ssize_t height,
                        Py_ssize_t width, Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    """The same for any n."""
    cdef Py_ssize_t o = 0
    while o < n:
        pool_places_back(corner + o * stride, dout + o, dx + o * stride, W, height, width, stride, min(n - o, PLACES))
        o += PLACES


# All planes ----------------------------------------------------------------------------------------------------


cdef int check(const Py_ssize_t *x, Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride, int threads) except -1:
    """Refuse what makes no pooling: the loops would not notice."""
    if min(x[0], x[1], height, width, stride) < 1 or x[2] < height or x[3] < width:
        raise ValueError(f"no pooling: x {(x[0], x[1], x[2], x[3])}, windows {height} x {width}, {stride=}")
    if not 1 <= threads <= 1024:  # OpenMP ends the process where it cannot start a thread
        raise ValueError(f"threads must lie between 1 and 1024, got {threads}")
    return 0


def pool_forward(const floating[:, :, :, ::1] x not None, Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride,
                 int threads):
    """out (N, C, H', W')."""
    check(x.shape, height, width, stride, threads)
    cdef Py_ssize_t planes = x.shape[0] * x.shape[1], H = x.shape[2], W = x.shape[3], p, y
    cdef Py_ssize_t OH = 1 + (H - height) // stride, OW = 1 + (W - width) // stride
    cdef const floating *corner
    cdef const floating *pixels = &x[0, 0, 0, 0]
    cdef floating[:, :, :, ::1] out = np.empty((x.shape[0], x.shape[1], OH, OW), np.asarray(x).dtype)
    cdef floating *target = &out[0, 0, 0, 0]
    for p in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        for y in range(OH):
            corner = pixels + (p * H + y * stride) * W
            if height == width == stride == 2:
                halve(corner, corner + W, target + (p * OH + y) * OW, OW)
            else:
                pool_row(corner, target + (p * OH + y) * OW, W, height, width, stride, OW)
    return out.base


def pool_backward(const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] x not None,
                  Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride, int threads):
    """dx (N, C, H, W)."""
    check(x.shape, height, width, stride, threads)
    cdef Py_ssize_t planes = x.shape[0] * x.shape[1], H = x.shape[2], W = x.shape[3], p, y
    cdef Py_ssize_t OH = 1 + (H - height) // stride, OW = 1 + (W - width) // stride, corner
    if dout.shape[0] != x.shape[0] or dout.shape[1] != x.shape[1] or dout.shape[2] != OH or dout.shape[3] != OW:
        raise ValueError(f"dout must have the shape {(x.shape[0], x.shape[1], OH, OW)}")
    cdef const floating *pixels = &x[0, 0, 0, 0]
    cdef const floating *gradient = &dout[0, 0, 0, 0]
    cdef floating[:, :, :, ::1] dx = np.empty((x.shape[0], x.shape[1], H, W), np.asarray(x).dtype)
    cdef floating *target = &dx[0, 0, 0, 0]
    cdef bint halves = height == width == stride == 2
    for p in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        if not halves or H % 2 or W % 2:  # pixels in several windows, or in none
            clear(target + p * H * W, H * W)
        for y in range(OH):
            corner = (p * H + y * stride) * W
            if halves:
                halve_back(pixels + corner, pixels + corner + W, gradient + (p * OH + y) * OW, target + corner,
                           target + corner + W, OW)
            else:
                pool_row_back(pixels + corner, gradient + (p * OH + y) * OW, target + corner, W, height, width, stride,
                              OW)
    return dx.base
