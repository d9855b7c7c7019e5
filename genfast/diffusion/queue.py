"""A queue of requests to a Diffusion model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..common.checks import require_number
from ..common.clip import as_clip, clipped
from ..common.conditions import known_to
from ..common.precision import weights_device
from .guidance.classifier_free import Guidance, guided_conditions
from .planned import planned
from .process.plans import Plan
from .sampling.queue import SampleQueue

if TYPE_CHECKING:
    from .model import Diffusion


class DiffusionQueue(SampleQueue):
    """Continuous batching for a Diffusion model; see `SampleQueue`."""

    def __init__(
        self, model: "Diffusion", capacity: int = 64, clamp: tuple[float, float] | None = None,
        clip: tuple[float, float] | str | None = "auto", graph: bool | str = "auto",
    ):  # fmt: skip
        self.model, self.bounds = model, as_clip(clip, model.levels)
        shape, device = model._shape(None), weights_device(model)
        super().__init__(model.denoiser, shape, capacity=capacity, clamp=clamp, device=device, graph=graph)

    def add(
        self, index: int, *, seed: int = 0, label: int | str | None = None, condition: Tensor | None = None,
        solver: str | Plan = "dpmpp_2m", steps: int = 20, grid: str | Callable | None = None, guidance: float = 1.0,
        negative_label: int | str | None = None, noise: str = "white", **options,
    ) -> int:  # fmt: skip
        """Asks for sample `index`, with the arguments of `Diffusion.sample`; returns its ticket."""
        plan = planned(self.model.schedule, solver, steps, grid, noise, options)
        conditions, unconditional = guided_conditions(
            1, Guidance(require_number("guidance", guidance)), label, condition, negative_label, **known_to(self.model)
        )
        width = self.model.condition_width
        for side in (conditions, unconditional):  # all requests share one batch, so that null is written out
            if width and side is not None:
                side["condition"] = side.get("condition", torch.full((1, width), torch.nan, device="cpu")).float()
        return super().add(
            index, plan=plan, seed=seed, noise=noise, guidance=None if unconditional is None else guidance,
            condition={name: value[0] for name, value in conditions.items()},
            unconditional=unconditional and {name: value[0] for name, value in unconditional.items()},
        )  # fmt: skip

    def step(self) -> list[tuple[int, Tensor]]:
        """As `SampleQueue.step`; x_0 is clipped as in `Diffusion.sample`."""
        return [(ticket, clipped(x, self.bounds)) for ticket, x in super().step()]
