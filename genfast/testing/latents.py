"""The cases of the ops of latent variables."""

from .. import ops
from .case import Case, base
from .sampling import noise_for


def _reparameterize() -> Case:
    def inputs(shape, dtype, generator):
        _, key, randn = base(shape, generator)
        return {"mu": randn(*shape).to(dtype), "logvar": randn(*shape).to(dtype), "key": key}

    def eager(mu, logvar, key):
        return ops.reparameterize_reference(mu, logvar, noise_for(mu, key, ops.Purpose.LATENT))

    return Case(
        "reparameterize", inputs, lambda **a: ops.reparameterize(**a), eager, lambda n, item: 3 * n * item,
        differentiable=("mu", "logvar"),
    )  # fmt: skip


CASES = (_reparameterize(),)
