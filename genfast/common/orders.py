"""Orders of samples that can be recomputed anywhere."""

import numpy as np

from .checks import require_integers


def permutation(n, seed, epoch):
    """The order of epoch `epoch`: int64 array (n,), a permutation of 0..n-1.

    Ranks n 64-bit words of the Philox stream with key (seed, epoch). NumPy keeps the words of a bit generator fixed
    for ever, which it does not promise for `Generator.permutation`; a run must resume under another version.
    Of 10^7 it takes 1.7 s of a core (AMD EPYC), and 0.35 GB for that time; 80 MB are left.
    """
    n, seed, epoch = require_integers(0, n=n, seed=seed, epoch=epoch)
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable")
