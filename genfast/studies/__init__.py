"""The field's questions as runnable studies: each a table, a picture and what they show, in under two minutes.

    genfast study                        # their names
    genfast study prior-shift --out out  # or genfast.studies.run("prior-shift", seed=0)

A study is a module here with a function study(seed, progress, ...) that gives a `Finding`, and one line in STUDIES.
Studies need the `demo` extra. `digits` is the demo, a program of its own.
"""

import importlib
from collections.abc import Callable

from ..common.checks import require_choice, require_integer
from ..common.keys import MAX_SEED
from .finding import Claim, Finding

STUDIES: dict[str, str] = {  # name: the question, a line
    "dimensionality": "The dimension grows, the data do not: full Gaussian, diagonal, PPCA and VAE on held-out data",
    "bias-variance": "Generative or discriminative: which needs fewer samples, and which errs less in the end?",
    "prior-shift": "The base rate moves from 10 % to 50 %: what does a classifier lose, and what brings it back?",
    "manifold": "What do PCA and a VAE with two latents make of a rolled sheet?",
    "linear-vae": "Does a linear VAE find probabilistic PCA? ELBO and subspace against the formula",
    "score-field": "Where is the learned score that of the noised data? Against the exact one, by noise level",
    "reverse-sde": "How does noise turn into data, by the reverse SDE and by the flow ODE?",
    "gan-failures": "Which numbers see that a GAN has collapsed, or draws junk between the modes?",
    "likelihood-vs-samples": "Does a better likelihood mean better samples? Models with one and not the other",
}

__all__ = ["STUDIES", "Claim", "Finding", "load", "run"]


def load(name: str) -> Callable[..., Finding]:
    """The function of a study, by its name in `STUDIES`. Raises ValueError for another name."""
    name = require_choice("name", name, STUDIES)
    return importlib.import_module(f".{name.replace('-', '_')}", __name__).study


def run(name: str, *, seed: int = 0, progress: bool = True) -> Finding:
    """What a study finds. seed: of data, weights, training and samples. Raises ValueError for an unknown name, and
    ImportError where the `demo` extra is not installed."""
    seed = require_integer("seed", seed, 0, MAX_SEED)
    return load(name)(seed=seed, progress=progress)
