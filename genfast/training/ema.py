"""Power-function averages of what is trained, and any other length of them from their snapshots.

    theta_hat_t = beta_t theta_hat_{t-1} + (1 - beta_t) theta_t,      beta_t = (1 - 1/t)^(gamma + 1)

after the t-th update that was made, t = 1, 2, ...: a mean in which theta_tau has the weight
(tau / t)^(gamma + 1) - ((tau - 1) / t)^(gamma + 1), the integral of the profile p_t(tau) = (gamma + 1) tau^gamma /
t^(gamma + 1) over the update. It forgets the start by itself, and its width grows with the run: `length`, sigma_rel, is
the standard deviation of the profile as a share of the run, sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
Karras et al. 2023, arXiv:2312.02696, section 3.
"""

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..checkpoint import load
from ..common.checks import require_number, shown
from ..common.files import CorruptCheckpoint, as_path
from ..common.state import misfits, not_finite
from .snapshots import Snapshot, read_snapshot, snapshots_in, write_snapshot

LONGEST = 0.25  # what is longer is next to a mean of the whole run: 0.289 is that of gamma = 0
FOLDER = "averages"  # of a run
NEAR = 0.05  # of a profile, in the L2 norm: what is further from all sums of the snapshots' cannot be reconstructed


def require_lengths(ema: object) -> tuple[float, ...]:
    """The lengths of averages that `ema` asks for: none for None, else those of a number or a sequence of them.
    Raises ValueError for others than distinct numbers in (0, 0.25]."""
    if ema is None:
        return ()
    given = tuple(ema) if isinstance(ema, Sequence) and not isinstance(ema, str | bytes) else (ema,)
    lengths = tuple(_require_length("ema", value) for value in given)
    if not lengths or len(set(lengths)) != len(lengths):
        raise ValueError(f"ema must be a length, distinct lengths, or None for no average; got {shown(ema)}")
    return lengths


def _require_length(name: str, value: object) -> float:
    """value, the length of an average."""
    if isinstance(value, numbers.Real) and LONGEST < value < 1:
        raise ValueError(
            f"{name} must be the length of an average as a share of the run, at most {LONGEST:g}; got {value:g}, which "
            "reads like a decay: pass 0.05 or 0.1, or None for no average"
        )
    return require_number(name, value, above=0, most=LONGEST)


def gamma_of(length: float) -> float:
    """The exponent of the profile whose standard deviation is this share of the run, at most 0.25."""
    roots = np.roots([1.0, 7.0, 16.0 - length**-2.0, 12.0 - length**-2.0])
    return float(roots[np.abs(roots.imag) < 1e-6].real.max())


class Averages:
    """Averages of the parameters, one of each length, on their devices and in their dtypes.

    values     one list of tensors a length, in the order of the parameters, views of what `update` writes to. The first
               is the model's
    """

    def __init__(self, parameters: list[Tensor], lengths: tuple[float, ...]):
        self.lengths = lengths
        averages = [_room(p, len(lengths)) for p in parameters]
        self.values = [[average[k] for average in averages] for k in range(len(lengths))]
        device = parameters[0].device if parameters else "cpu"
        self._exponents = torch.tensor([gamma_of(n) + 1 for n in lengths], dtype=torch.float64, device=device)
        kinds = dict.fromkeys((p.device, p.dtype) for p in parameters)
        alike = [[i for i, p in enumerate(parameters) if (p.device, p.dtype) == kind] for kind in kinds]
        self._groups = [([averages[i] for i in group], [parameters[i] for i in group]) for group in alike]

    @torch.no_grad()
    def update(self, updates: Tensor, good: Tensor) -> None:
        """Takes the parameters into the averages, after a step. Nothing is read from the device.

        updates: (), the number of good steps so far, this one included.  good: () bool, whether it was one; if not
        nothing changes, whatever the parameters hold.
        """
        if not self.lengths:
            return
        kept = (1 - updates.double().reciprocal()) ** self._exponents
        weights = torch.add(good, kept, alpha=-1)  # negative after another step, NaN before the first: no weights
        for averages, parameters in self._groups:
            ops.average(averages, parameters, weights.to(averages[0].dtype))

    def tensors(self) -> dict[str, Tensor]:
        """All averages by name, for a state; shared."""
        return {f"{k}.{i}": value for k, values in enumerate(self.values) for i, value in enumerate(values)}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Makes the averages those of `tensors()`. Raises ValueError for others."""
        own = self.tensors()
        if wrong := misfits(tensors, own):
            raise ValueError(f"tensors must be the averages of this run; got {wrong}")
        for name, value in own.items():
            value.copy_(tensors[name])

    def snapshot(
        self, folder: str | Path, updates: int, names: list[str], tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        """Writes each average to `folder`/<updates>-<length>.safetensors, atomically; names: of the parameters;
        tensors: all of what these averages are shares of, by the names of `tensors()`, which they are by default.

        Of a run of n weights and K lengths 32 snapshots take 128 n K bytes. Those of later updates, which a killed run
        may have left, are removed. Raises FloatingPointError, with length and name, for what is not finite.
        """
        tensors = self.tensors() if tensors is None else tensors
        for k, length in enumerate(self.lengths if updates else ()):  # of no update there is no average
            average = {name: tensors[f"{k}.{i}"] for i, name in enumerate(names)}
            if problem := not_finite(average, names):
                raise FloatingPointError(f"the average of length {length:g} must be finite to be kept; {problem}")
            write_snapshot(Path(folder), Snapshot(updates, length), average)


@torch.no_grad()
def _room(parameter: Tensor, lengths: int) -> Tensor:
    """(lengths, *) copies of the parameter, as it lies in memory but for gaps, each from a multiple of 64 bytes on."""
    layout = torch.empty_like(ops.dense(parameter), device="meta")
    rows = parameter.new_zeros(lengths, -(-parameter.numel() // 16) * 16)
    return rows.as_strided((lengths, *layout.shape), (rows.stride(0), *layout.stride())).copy_(parameter)


def average(run: str | Path, length: float, net: object = None) -> object:
    """The model of a run whose weights are averaged with this length, from the snapshots of a run with two or more.

        theta_hat = sum_i x_i theta_hat_i,      x = argmin |sum_i x_i p_i - p|^2,   sum_i x_i = 1

    over all snapshots i, p the profile of the length at the last of them; inner products in closed form, float64. What
    did not move during the run is so reproduced exactly. With 32 snapshots of lengths 0.05 and 0.1 the profile is
    within 0.1 % of the tracked one, of 0.01 and 0.25 within 3 %. Buffers and all else are those of the last checkpoint.

    run: the folder `out` of `fit`.  length: between the lengths that it tracked.  net: see `genfast.load`.
    Raises FileNotFoundError without snapshots; ValueError for a length that cannot be reconstructed from them;
    CorruptCheckpoint, which names the file, for a damaged one; FloatingPointError for weights that are not finite; and
    what `load` raises. Karras et al. 2023, arXiv:2312.02696, section 3.2.
    """
    folder = as_path("run", run) / FOLDER
    length = _require_length("length", length)
    model = load(run, net)
    found = snapshots_in(folder)
    if not found:
        raise FileNotFoundError(
            f"no snapshots in {folder}: a run writes them while it trains with two or more lengths, ema=(0.05, 0.1)"
        )
    shares = _shares(list(found), length)
    total = {}
    for share, (snapshot, file) in zip(shares, found.items()):
        tensors = read_snapshot(file, snapshot)
        if total and misfits(tensors, total):
            raise CorruptCheckpoint(f"{file} is of another model than the snapshots beside it")
        if problem := not_finite(tensors, tensors):
            raise FloatingPointError(f"{file} must hold finite weights; {problem}")
        for name, value in tensors.items():
            total[name] = total.get(name, 0) + share * value.double()
    state = model.state_dict()
    weights = {name: value.to(state[name].dtype) for name, value in total.items() if name in state}
    if len(weights) < len(total) or (wrong := misfits(weights, {name: state[name] for name in weights})):
        unknown = sorted(total.keys() - weights.keys())
        raise CorruptCheckpoint(f"{folder} holds averages of another model than {run}: {wrong or unknown[:3]}")
    model.load_state_dict({**state, **weights})
    return model


def _shares(snapshots: Sequence[Snapshot], length: float) -> np.ndarray:
    """x_i of each snapshot. Raises ValueError where no sum of their profiles comes near that of the length."""
    lengths = sorted({snapshot.length for snapshot in snapshots})
    if not lengths[0] <= length <= lengths[-1]:
        tracked = f"[{lengths[0]:g}, {lengths[-1]:g}], between the lengths that the run tracked"
        raise ValueError(f"length must lie in {tracked}; got {length:g}")
    t = np.array([snapshot.updates for snapshot in snapshots], dtype=np.float64)
    gamma = np.array([gamma_of(snapshot.length) for snapshot in snapshots])
    last, wanted = t.max(), gamma_of(length)
    products, toward = _product(t[:, None], gamma[:, None], t, gamma), _product(t, gamma, last, wanted)
    bordered = np.block([[products, np.ones((len(t), 1))], [np.ones((1, len(t))), np.zeros((1, 1))]])
    x = np.linalg.lstsq(bordered, np.append(toward, 1.0), rcond=None)[0][:-1]
    own = _product(last, wanted, last, wanted)
    off = np.sqrt(max(0.0, x @ products @ x - 2 * x @ toward + own) / own)
    if off > NEAR:
        raise ValueError(
            f"length must be one that the {len(t)} snapshots of {', '.join(map('{:g}'.format, lengths))} come near; "
            f"got {length:g}, whose profile they miss by {off:.0%}: pass a tracked one"
        )
    return x


def _product(t: np.ndarray, gamma: np.ndarray, s: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The integral over tau of two profiles, (gamma + 1) tau^gamma / t^(gamma + 1) up to t, and that of delta, s."""
    end = np.minimum(t, s)
    powers = (gamma + 1) * np.log(end / t) + (delta + 1) * np.log(end / s)
    return (gamma + 1) * (delta + 1) / (gamma + delta + 1) * np.exp(powers) / end
