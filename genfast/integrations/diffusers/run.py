"""One run of a drop-in scheduler: its plan on the device, its seeds, its history, its float32 state."""

import torch

from ... import ops
from ...common.keys import MAX_SEED
from ...diffusion.sampling.step_table import plan_rows, plan_scale
from ...ops.dispatch import dense, in_layout_of, wants_grad
from ...ops.step import step_reference
from .plans import build


class Prepared:
    """What all runs of the same steps share: the plan from network call `begin` on, its rows and their tables."""

    def __init__(self, scheduler, begin, options):
        grid, self.plan = build(scheduler, begin, options)
        self.scheduler, self.begin, self.options = scheduler, begin, options
        scale = plan_scale(self.plan, grid.schedule, grid.parameterization)
        self.c_skip, self.c_out = scale.c_skip.tolist(), scale.c_out.tolist()
        self.scales = bool((scale.c_in != 1).any())
        self.noisy = bool(self.plan.s.any())
        self.rows, self.tables = plan_rows(self.plan, scale), {}
        config = scheduler.config
        self.thresholding = bool(config.get("thresholding", False))
        clip = config.get("clip_sample", False) and not self.thresholding
        self.clamp = (-config.clip_sample_range, config.clip_sample_range) if clip else None

    def table(self, quiet, raw, dtype, device):
        """The plan's table; without noise if `quiet`.  raw: DDIM's eps from the network's output itself (in slot 0),
        which differs from that of D where D is clamped: x' = alpha_s D + k eps with eps = (x - alpha (c_skip x + c_out
        F)) / sigma, from x' = k / sigma x + (alpha_s - k alpha / sigma) D.
        """
        key = quiet, raw, dtype, device
        if key not in self.tables:
            rows = dict(self.rows)
            if quiet:
                rows["terms"] = None
            if raw:
                alpha, a, e = torch.tensor(self.plan.alpha, device="cpu"), rows["a"], rows["e"].clone()
                e[:, 0] = -a * alpha * rows["c_out"]
                rows |= {"a": a * (1 - alpha * rows["c_skip"]), "b": rows["b"] + a * alpha, "e": e}
            if self.thresholding:
                rows |= {"c_skip": 0.0, "c_out": 1.0}
            self.tables[key] = ops.StepTable.pack(**rows, dtype=dtype).to(device)
        return self.tables[key]


class Run:
    """Steps a batch through the rows of a plan."""

    def __init__(self, prepared, sample, generator, seed):
        self.prepared, self.shape, self.device = prepared, sample.shape, sample.device
        self.dtype = torch.promote_types(sample.dtype, torch.float32)
        rows = torch.arange(len(prepared.plan), dtype=torch.int32, device=self.device)
        self.rows = rows[:, None].expand(-1, len(sample)).contiguous()
        self.key = _key(len(sample), self.device, generator, seed, prepared.noisy)
        self.history = self.x = self.last = self.y = None

    def goes_on(self, sample, options):
        """Whether a sample can be the next of this run."""
        return sample.shape == self.shape and sample.device == self.device and options == self.prepared.options

    def _is_last(self, sample):
        return self.last is not None and sample is self.last[0] and sample._version == self.last[1]

    def scaled(self, sample):
        """The network's input that the last step made, if `sample` is what it returned; else None."""
        return self.y if self.y is not None and self.y.dtype == sample.dtype and self._is_last(sample) else None

    def step(self, index, model_output, sample, noise, raw):
        """(next sample, function that gives D), from network call `index`."""
        prepared, plan = self.prepared, self.prepared.plan
        r = index - prepared.begin
        c_skip, c_out, clamp = prepared.c_skip[r], prepared.c_out[r], prepared.clamp
        raw = raw and (prepared.thresholding or clamp is not None)
        F = answer = dense(model_output)
        if self._is_last(sample) and sample.dtype != self.dtype:
            x = in_layout_of(self.x, F)
        else:
            x = torch.empty_like(F, dtype=self.dtype).copy_(sample)
        if prepared.thresholding:
            D = c_skip * x + c_out * F.to(self.dtype)
            config = prepared.scheduler.config
            F = ops.dynamic_threshold(D, config.dynamic_thresholding_ratio, limit=config.sample_max_value)
        history = self._history(x, answer, raw)
        scales = prepared.scales and r + 1 < len(plan) and F is answer
        y = torch.empty_like(F) if scales else None
        table = prepared.table(noise is not None, raw, self.dtype, self.device)
        # Gradients, which the kernel has none of, go through the same equations in plain torch.
        step = step_reference if wants_grad(x, F) else ops.step
        step(x, F, self.key, self.rows[r], table, y=y, history=history, clamp=clamp)
        if noise is not None:
            x.add_(noise.to(x), alpha=float(plan.s[r, 0]))
            y = None
        out = x if sample.dtype == self.dtype else x.to(sample.dtype)
        self.x, self.y, self.last = x, y, (out, out._version)

        def predict():
            if prepared.thresholding:
                return F.to(sample.dtype)
            D = c_skip * sample.to(self.dtype) + c_out * model_output.to(self.dtype)
            return (D if clamp is None else D.clamp(*clamp)).to(sample.dtype)

        return out, predict

    def _history(self, x, answer, raw):
        if raw:
            return in_layout_of(answer.to(self.dtype), x)[None]
        slots = self.prepared.plan.slots
        if slots and self.history is None:
            self.history = x.new_empty_strided((slots, *x.shape), (x.numel(), *x.stride())).zero_()
        return self.history


def _key(count, device, generator, seed, noisy):
    """(seed, sample) of each row; seeds are drawn only where there is noise to make, since that reads a generator."""
    if not noisy or seed is not None:
        return ops.make_key(seed or 0, count).to(device)
    if isinstance(generator, (list, tuple)):
        if len(generator) != count:
            raise ValueError(f"generator must be one, or a list of {count}, one a sample; got {len(generator)}")
        return torch.cat([ops.make_key(_draw(g), 1) for g in generator]).to(device)
    return ops.make_key(_draw(generator), count).to(device)


def _draw(generator):
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(MAX_SEED, (), generator=generator, device=device))
