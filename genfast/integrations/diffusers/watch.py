"""What a drop-in scheduler's plans are made from, as it was when they were made, on the host."""

import torch

from .run import version
from .tables import DISCRETE, PRESERVING, VARIABLES

TABLES = ("timesteps", "sigmas", "alphas_cumprod", "final_alpha_cumprod")
# Attributes, beside the config, that diffusers' steps read.
ATTRIBUTES = (
    "num_inference_steps", "custom_timesteps", "variance_type", "predict_x0", "disable_corrector", "solver_p",
    "order_list",
)  # fmt: skip


class Watch:
    """Tables and settings of a scheduler, which anyone may assign or change in place between two steps.

    A table on an accelerator is read only when it is another tensor than before, or has been changed.
    """

    def __init__(self, kind):
        # The sigmas of the others do not come from alphas_cumprod any more once they are set.
        of_kind = TABLES if VARIABLES[kind] in (DISCRETE, PRESERVING) else TABLES[:2]
        self.names, self.seen, self.host, self.settings, self.moved = of_kind, {}, {}, None, {}
        self.places = {}

    def moves(self, name, host, tensor):
        """`tensor` is the table `name` on a device, and `host` the same on the CPU."""
        self.moved[name] = (tensor, version(tensor), host) if tensor is not host else (None, None, None)

    def look(self, scheduler):
        """Whether anything has another value than at the last look. Raises ValueError for what is no tensor."""
        own = vars(scheduler)
        if self.settings is not None and self._is_as_seen(own):
            return False
        host = {name: self._read(name, own[name]) for name in self.names if name in own}
        settings = _settings(own)
        changed = self.settings is None or host.keys() != self.host.keys() or not _equal(settings, self.settings)
        changed = changed or not all(torch.equal(host[name], self.host[name]) for name in host)
        self.seen = {name: (own[name], version(own[name])) for name in host}
        self.host, self.settings = host, settings
        if changed:
            rows = host["timesteps"].tolist()
            self.places = dict(zip(reversed(rows), reversed(range(len(rows))), strict=True))
        return changed

    def _is_as_seen(self, own):
        for name, (tensor, count) in self.seen.items():
            now = own.get(name)
            if now is not tensor or version(now) != count:
                return False
            # A change through `.data` or numpy is not counted.
            if now.device.type == "cpu" and not torch.equal(now, self.host[name]):
                return False
        return _equal(_settings(own), self.settings)

    def _read(self, name, tensor):
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} must be a tensor to be made a plan; got {type(tensor).__name__}")
        moved, count, host = self.moved.get(name, (None, None, None))
        if tensor is moved and version(tensor) == count:
            return host
        if tensor.is_meta:  # it has no values that could be others
            if name not in self.host or self.host[name].shape != tensor.shape:
                raise ValueError(f"{name} must have values to be made a plan; got a tensor on the meta device")
            return self.host[name]
        return tensor.detach().clone().cpu()

    def position(self, timestep):
        """The place in `timesteps` of a tensor that is a part of it, without a look at its value; else None."""
        table = self.seen["timesteps"][0]
        if not isinstance(timestep, torch.Tensor) or timestep.numel() != 1 or timestep.dtype != table.dtype:
            return None
        if timestep.untyped_storage()._cdata != table.untyped_storage()._cdata:
            return None
        offset, stride = timestep.storage_offset() - table.storage_offset(), table.stride(0) or 1
        place = offset // stride
        return place if offset % stride == 0 and 0 <= place < len(table) else None

    def place(self, timestep):
        """The place of a timestep in `timesteps`, by its value if need be; None if it is not there."""
        place = self.position(timestep)
        if place is not None:
            return place
        if isinstance(timestep, torch.Tensor):
            if timestep.numel() != 1:
                return None
            timestep = timestep.item()
        return self.places.get(timestep)


def _settings(own):
    attributes = [own.get(name) for name in ATTRIBUTES]
    return {**vars(own["_internal_dict"]), "": [list(a) if isinstance(a, list) else a for a in attributes]}


def _equal(settings, others):
    try:
        return settings == others
    except ValueError:  # another array among them, which has no one truth
        return False
