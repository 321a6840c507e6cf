"""Holes filled with the stiffest sheet that joins their surroundings: Δ²x = 0.

scikit-image's function for this fails at some holes that touch the border (0.26: it
leaves places of its sparse matrix unset); this one agrees with it elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["fill_biharmonic"]

Array = np.ndarray[Any, Any]


def fill_biharmonic(planes: Array, mask: Array) -> Array:
    """Planes with their holes filled so that Σ (Δx)² is least.

    Beyond its border a plane is continued by its mirror image. Results are clipped to
    the range of what is known, as a sheet may swing.

    Args:
        planes: what is known of each.
        mask: True where nothing is, the same for all.

    Shapes: planes (k, h, w), mask (h, w) -> float64 (k, h, w).

    Source: Damelin & Hoang, "On surface completion and image inpainting by biharmonic
    functions: numerical aspects", 2018, section 2; the border is ours.
    """
    from scipy import ndimage, sparse  # half a second, and few need them
    from scipy.sparse.linalg import spsolve

    found = np.array(planes, np.float64)
    if not mask.any() or mask.all():
        return found
    height, width = mask.shape
    laplacian = sparse.csr_array(
        sparse.kron(_second_differences(height), sparse.eye_array(width))
        + sparse.kron(sparse.eye_array(height), _second_differences(width))
    )
    # Only where a Laplacian sees a hole does it say anything about it.
    cross = ndimage.generate_binary_structure(2, 1)
    near = np.flatnonzero(ndimage.binary_dilation(mask, cross))
    hole, known = np.flatnonzero(mask), np.flatnonzero(~mask)
    rows = sparse.csc_array(laplacian[near])
    unknown = rows[:, hole]
    flat = found.reshape(len(found), -1).T
    right = -(unknown.T @ (rows[:, known] @ flat[known]))
    solved = spsolve(sparse.csc_array(unknown.T @ unknown), right)
    low, high = flat[known].min(axis=0), flat[known].max(axis=0)
    flat[hole] = np.clip(solved.reshape(len(hole), -1), low, high)
    return np.ascontiguousarray(flat.T).reshape(found.shape)


def _second_differences(size: int) -> Any:
    """The matrix of x[i-1] - 2·x[i] + x[i+1], the ends mirrored."""
    from scipy import sparse

    middle = np.full(size, -2.0)
    middle[[0, -1]] += 1
    if size == 1:
        middle[:] = 0
    beside = np.ones(size - 1)
    return sparse.diags_array([beside, middle, beside], offsets=[-1, 0, 1])
