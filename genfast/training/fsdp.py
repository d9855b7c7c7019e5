"""One training on several processes, each of which has a share of all weights: torch's FSDP2.

The weights of a block are gathered when it is needed, forward and backward, and its gradients are added up where their
shares lie. Shares are what is trained, what the optimizer and the averages are of, and what is told of a state.
"""

import atexit
import contextlib
import copy
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, debug, distribute_tensor

from ..common import processes
from .compiled import blocks
from .modes import train_mode
from .parallel import Ddp, Owner

if TYPE_CHECKING:
    from .buffers import Buffers

PARCEL = 2**28  # bytes that are gathered at once, about


class Fsdp(Ddp):
    """A weight is shared by its rows; where there are fewer of them than processes, the last have none of it.

    The model is not trained itself but another one of its kind, and holds numbers only while it is looked at: in all
    processes, as many as there are. At other times its weights are NaN.
    dtype: of the weights of blocks when they are gathered, where they are computed with in it; None for their own.
    """

    apart = True

    def __init__(self, rank: int, ranks: int, batch: int, dtype: torch.dtype | None):
        super().__init__(rank, ranks, batch)
        self.dtype = dtype
        self.shares: dict[int, DTensor] = {}  # id of what a process trains -> of what it is a share

    def split(self, model: object, players: dict[str | None, dict]) -> tuple[object, dict[str | None, dict]]:
        if not isinstance(model, nn.Module) or hasattr(model, "players"):
            raise ValueError(
                "parallel must be 'ddp' for a model with players, whose losses have gradients of gradients, for which "
                f"FSDP2 has freed the weights too early, and for no Module; got 'fsdp' and a {type(model).__name__}"
            )
        ((name, group),) = players.items()
        self.weights = group["params"]
        for p in self.weights:
            processes.send(p)
        atexit.register(_forget)
        names = {id(p): name for name, p in model.named_parameters()}
        mesh = init_device_mesh(self.weights[0].device.type, (self.ranks,))
        self.trained = _sharded(model, self.weights, mesh, self.dtype)
        train_mode(self.trained)
        found = dict(self.trained.named_parameters())
        shares = [found[names[id(p)]] for p in self.weights]
        own = [p.to_local().detach() if isinstance(p, DTensor) else p for p in shares]
        self.shares = {id(part): p for part, p in zip(own, shares) if isinstance(p, DTensor)}
        for module, twin in zip(model.modules(), self.trained.modules(), strict=True):
            module._buffers, module._non_persistent_buffers_set = twin._buffers, twin._non_persistent_buffers_set
        for p in self.weights:
            p.data = p.new_full((), torch.nan).expand(p.shape)
        return self.trained, {name: group | {"params": own}}

    def of(self, parameter: Tensor) -> Tensor:
        return self.shares.get(id(parameter), parameter)

    @contextlib.contextmanager
    def computing(self, last: bool) -> Iterator[None]:
        self.trained.set_requires_gradient_sync(last)
        with processes.exchanging():
            yield

    @torch.no_grad()
    def add_up(
        self, parameters: Sequence[Tensor], loss: Tensor, fine: Tensor, buffers: "Buffers"
    ) -> tuple[Tensor, Tensor]:
        for own, share in ((p, self.shares[id(p)]) for p in parameters if id(p) in self.shares):
            own.grad, share.grad = None if share.grad is None else share.grad.to_local(), None
        return super().add_up([p for p in parameters if id(p) not in self.shares], loss, fine, buffers)

    def norms(self, tensors: Sequence[Tensor], norms: Tensor) -> Tensor:
        squares = norms.square() * self._counts(tuple(self.rank == 0 or id(t) in self.shares for t in tensors), norms)
        processes.add_up([squares])
        return squares.sqrt()

    @contextlib.contextmanager
    def shown(self, parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        before = [p.data for p in self.weights]
        try:
            self.keep(parameters, values)
            yield [*parameters]
        finally:
            for p, value in zip(self.weights, before):
                p.data = value

    @torch.no_grad()
    def keep(self, parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        for p, value in zip(self.weights, self._whole(values, parameters), strict=True):
            p.data = value

    def part(self, value: Tensor, owner: Tensor | None) -> Tensor:
        share = self.shares.get(id(owner))
        if share is None or value.shape != share.shape:
            return value
        value = value.to(share.device)
        return distribute_tensor(value, share.device_mesh, share.placements, src_data_rank=None).to_local()

    def gathered(self, tensors: Mapping[str, Tensor], owner: Owner) -> Mapping[str, Tensor]:
        whole = self._whole(tensors.values(), map(owner, tensors))
        return {name: value.to("meta" if self.rank else "cpu") for name, value in zip(tensors, whole)}

    def send(self, tensors: Mapping[str, Tensor], owner: Owner) -> None:
        whole = {name: value for name, value in tensors.items() if id(owner(name)) not in self.shares}
        super().send(whole, owner)

    def _whole(self, values: Iterable[Tensor], owners: Iterable[Tensor | None]) -> Iterator[Tensor]:
        """All of each, where it is a share as its owner is one, in every process."""
        some, size = [], 0
        for value, owner in zip(values, owners):
            share = self.shares.get(id(owner))
            share = None if share is None or value.shape != owner.shape else share
            some.append((value, share))
            size += 0 if share is None else share.numel() * value.itemsize
            if size >= PARCEL:
                yield from _exchanged(some, self.ranks)
                some, size = [], 0
        yield from _exchanged(some, self.ranks)


def _forget() -> None:
    """Torch remembers the group in what it has found about shares: one that lives as long as the interpreter aborts it
    (`processes._leave`, which is called after this)."""
    gc.collect()
    getattr(debug, "_clear_sharding_prop_cache", int)()


def _exchanged(some: Sequence[tuple[Tensor, Tensor | None]], ranks: int) -> Iterator[Tensor]:
    """All of these tensors, each process having its rows of what goes with a share."""
    rooms = []
    for value, share in some:
        if share is not None:
            rooms.append(value.new_zeros(-(-len(share) // ranks), *share.shape[1:]))
            rooms[-1][: len(value)] = value
    found = iter(processes.beside(rooms))
    for value, share in some:
        yield value.clone() if share is None else next(found).flatten(0, 1)[: len(share)]


def _sharded(model: nn.Module, parameters: Sequence[Tensor], mesh: DeviceMesh, dtype: torch.dtype | None) -> nn.Module:
    """Another model with the same weights, of which this process keeps its shares. Layers that a network reads before
    its first block (`modulation_layers`) are gathered together, then each block, and what is left, in its own dtype,
    as long as a loss is computed."""
    shared = {id(p) for p in parameters if p.ndim}
    twin = copy.deepcopy(model, {id(p): p for p in model.parameters() if p.ndim})
    common = {"mesh": mesh, "ignored_params": {p for p in twin.parameters() if id(p) not in shared}}
    reduced = None if dtype is None else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduced, cast_forward_inputs=False)
    groups = [part.modulation_layers() for part in twin.modules() if hasattr(part, "modulation_layers")]
    for group in [*groups, *([block] for block in blocks(twin))]:
        if group and not isinstance(group[0], FSDPModule):  # which may stand in a list, too
            fully_shard(group, mp_policy=policy, **common)
    fully_shard(twin, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), **common)
    for part in twin.modules():
        if isinstance(part, FSDPModule):  # the loss is divided by the rows of all; gloo knows no other sum
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(twin, "loss")
    return twin
