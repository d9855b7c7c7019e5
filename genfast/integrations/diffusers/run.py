"""One run of a drop-in scheduler: its plan on the device, its seeds, its history, its float32 state."""

import torch

from ... import ops
from ...common.keys import MAX_SEED
from ...diffusion.sampling.step_table import plan_rows, plan_scale
from ...ops.dispatch import dense, in_layout_of, wants_grad
from ...ops.step import step_reference
from .plans import build, clipping, threshold
from .tables import EXPLODING, KARRAS, VARIABLES, kind_of


class Prepared:
    """What all runs of the same steps share: the plan from network call `begin` on, its rows and their tables."""

    def __init__(self, scheduler, begin, options):
        grid, self.plan = build(scheduler, begin, options)
        self.begin, self.options, self.kind = begin, options, kind_of(scheduler)
        scale = plan_scale(self.plan, grid.schedule, grid.parameterization)
        self.c_skip, self.c_out = scale.c_skip.tolist(), scale.c_out.tolist()
        self.scales = VARIABLES[self.kind] in (EXPLODING, KARRAS)
        self.noisy = bool(self.plan.s.any())
        self.rows, self.tables = plan_rows(self.plan, scale), {}
        self.slots, config = self.plan.slots, scheduler.config
        if scheduler.order == 2:
            self._from_the_stored_sample()
        clips = clipping(scheduler)
        self.clamp = (-config.clip_sample_range, config.clip_sample_range) if clips == "clip_sample" else None
        self.thresholding = None
        if clips == "thresholding":
            self.thresholding = config.dynamic_thresholding_ratio, config.sample_max_value

    def __deepcopy__(self, memo):
        return self  # it never changes

    def _from_the_stored_sample(self):
        """Heun's second call x'' = h_0 + dt / 2 (h_1 + (x - D) / sigma), with h_0 the sample that the first was given
        and h_1 = (x - D) / sigma of it: diffusers starts from that sample, not from the one that it is given."""
        rows, sigma = self.rows, torch.tensor(self.plan.sigma, device="cpu")
        first, second = sigma[:-1:2], sigma[1::2]
        half = (second - first) / 2
        for name in ("p", "q", "m", "e"):
            rows[name] = torch.zeros_like(rows[name])
        rows["p"][:-1:2, 0], rows["p"][:-1:2, 1], rows["q"][:-1:2, 1] = 1.0, 1 / first, -1 / first
        rows["a"][1::2], rows["b"][1::2] = half / second, -half / second
        rows["e"][1::2, 0], rows["e"][1::2, 1] = 1.0, half
        rows["writes"] = torch.zeros_like(rows["writes"])
        rows["writes"][:-1:2, :2] = True
        self.slots = 2

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
    """Steps a batch through the rows of a plan.  next: the network call that it expects."""

    def __init__(self, prepared, index, model_output, sample, generator, seed):
        self.prepared, self.next, self.shape, self.device = prepared, index, sample.shape, sample.device
        self.dtype = _wide(model_output, sample)
        rows = torch.arange(len(prepared.plan), dtype=torch.int32, device=self.device)
        self.rows = rows[:, None].expand(-1, len(sample)).contiguous()
        self.key = _key(len(sample), self.device, generator, seed, prepared.noisy)
        self.history = self.x = self.last = self.y = None

    def goes_on(self, model_output, sample, options):
        """Whether a sample can be the next of this run."""
        same = sample.shape == self.shape and sample.device == self.device
        return same and _wide(model_output, sample) == self.dtype and options == self.prepared.options

    def change(self, prepared, index):
        """Go on with another plan of the same begin and options, or from another network call."""
        self.prepared, self.next, self.y = prepared, index, None

    def _is_last(self, sample):
        return self.last is not None and sample is self.last[0] and version(sample) == self.last[1] is not None

    def scaled(self, sample):
        """The network's input that the last step made, if `sample` is what it returned; else None."""
        return self.y if self.y is not None and self.y.dtype == sample.dtype and self._is_last(sample) else None

    def step(self, model_output, sample, noise, raw, dtype):
        """(next sample in `dtype`, function that gives D), from the next network call."""
        prepared, plan = self.prepared, self.prepared.plan
        r = self.next - prepared.begin
        c_skip, c_out, clamp = prepared.c_skip[r], prepared.c_out[r], prepared.clamp
        raw = raw and (prepared.thresholding is not None or clamp is not None)
        F = answer = dense(model_output)
        if self._is_last(sample) and sample.dtype != self.dtype:
            x = in_layout_of(self.x, F)
        else:
            x = torch.empty_like(F, dtype=self.dtype).copy_(sample)
        if prepared.thresholding:
            F = threshold(c_skip * x + c_out * F.to(self.dtype), *prepared.thresholding)
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
        out = x if dtype == self.dtype else x.to(dtype)
        self.x, self.y, self.last, self.next = x, y, (out, version(out)), self.next + 1

        def predict():
            if prepared.thresholding:
                return F
            D = torch.add(c_skip * sample.to(self.dtype), model_output.to(self.dtype), alpha=c_out)
            return D if clamp is None else D.clamp(*clamp)

        return out, predict

    def _history(self, x, answer, raw):
        if raw:
            return torch.empty_like(x).copy_(answer)[None]  # a copy: the step must not write to what it reads
        slots = self.prepared.slots
        if slots and self.history is None:
            self.history = x.new_empty_strided((slots, *x.shape), (x.numel(), *x.stride())).zero_()
        return self.history

    def remembered(self, count):
        """The first `count` slots of the history."""
        return [self.history[slot] for slot in range(count)]


def version(tensor):
    """How often a tensor has been changed in place; None for one of inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def _wide(model_output, sample):
    return torch.promote_types(torch.promote_types(sample.dtype, model_output.dtype), torch.float32)


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
