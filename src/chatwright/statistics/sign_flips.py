"""Randomisation test by sign flips, exact for few groups and valid for any number of them.

Legend: S data sets tested at once, G groups (prompts, questions), D draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_EXACT_GROUPS = 12  # 2^12 sign vectors
_DRAWS = 9999
_CHUNK = 1024
_SLACK = 1e-9  # sums of the same numbers in another order


def sign_flip_p(differences: Floats, *, seed: int = 0, draws: int = _DRAWS) -> Floats:
    """One-sided p-value of a mean difference above 0, per data set: [..., G] -> [...].

    The share of sign vectors under which the sum is at least as large as the one observed. Where every group's difference
    is as likely as its negative, P(p <= a) <= a for every a, whatever the distribution, the number of groups or their
    weights: exact enumeration up to 12 groups, else `draws` random sign vectors and the identity.
    """
    values = np.atleast_2d(differences)
    num = values.shape[-1]
    observed = values.sum(axis=-1)
    limit = observed - _SLACK * (1.0 + np.abs(values).sum(axis=-1))
    exact = num <= _EXACT_GROUPS
    total = 2**num if exact else draws + 1
    at_least = np.zeros(observed.shape) if exact else np.ones(observed.shape)
    random = np.random.default_rng(seed)
    for start in range(0, total - (not exact), _CHUNK):
        size = min(_CHUNK, total - (not exact) - start)
        signs_DG = _all_signs(num, start, size) if exact else random.integers(0, 2, size=(size, num)) * 2.0 - 1.0
        at_least += (values @ signs_DG.T >= limit[..., None]).sum(axis=-1)
    found = at_least / total
    return np.asarray(found[0] if differences.ndim == 1 else found)


def _all_signs(num: int, start: int, size: int) -> Floats:
    """Sign vectors number `start` to `start + size`, [size, num]."""
    bits = (np.arange(start, start + size)[:, None] >> np.arange(num)[None, :]) & 1
    return np.asarray(bits * 2.0 - 1.0)
