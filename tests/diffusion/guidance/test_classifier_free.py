"""Guidance: its interval, its rescaling, a second network, a negative condition."""

import functools
import math

import pytest
import torch
from helpers import lesser, row_wise

from genfast.diffusion import sampling
from genfast.diffusion.guidance.classifier_free import Guidance
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.solvers import plan

VP = schedules.VPLinear()
LABEL, NULL = torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.full((7,), 3)
GUIDED = {"condition": {"label": LABEL}, "unconditional": {"label": NULL}}
sample = functools.partial(sampling.sample, progress=False)


DENOISER = Denoiser(row_wise, VP, "v")
SDE = plan("dpmpp_2m_sde", VP, 6)


def test_a_guidance_interval_is_guidance_in_these_rows_only():
    calls = []

    def net(y, t, label):
        calls.append((float(t[0]), len(y)))
        return row_wise(y, t, label)

    sample(Denoiser(net, VP, "v"), (2,), SDE, 7, chunk=7, guidance=Guidance(3.0, interval=(0.2, 0.6)), **GUIDED)
    for t, rows in calls:
        assert rows == (14 if 0.2 <= t <= 0.6 else 7)
    assert {rows for _, rows in calls} == {7, 14}
    whole = sample(DENOISER, (2,), SDE, 7, guidance=Guidance(3.0, interval=(0.0, 1.0)), **GUIDED)
    assert torch.equal(whole, sample(DENOISER, (2,), SDE, 7, guidance=3.0, **GUIDED))
    never = sample(DENOISER, (2,), SDE, 7, guidance=Guidance(3.0, interval=(0.0, 0.0)), **GUIDED)
    assert torch.equal(never, sample(DENOISER, (2,), SDE, 7, condition={"label": LABEL}))


def test_rescaled_guidance_has_the_deviation_of_the_conditional_network():
    """phi = 1: std(F) of each sample is std(F_c)."""
    seen = {}

    def watch(name):
        return lambda state: seen.setdefault(name, state.denoised)

    def scaled(y, t, label):
        return (1 + 0.3 * label[:, None]) * torch.tanh(y * (1.5 - t[:, None]))

    denoiser = Denoiser(scaled, VP, "x0")
    one = plan("ddim", VP, 3)
    settings = {"shape": (50,), "plan": one, "index": 7, **GUIDED}
    sample(denoiser, guidance=Guidance(5.0, rescale=1.0), callback=watch("rescaled"), **settings)
    sample(denoiser, guidance=5.0, callback=watch("plain"), **settings)
    settings.pop("unconditional")
    sample(denoiser, callback=watch("conditional"), **settings)
    std = {name: D.std(1) for name, D in seen.items()}
    assert torch.allclose(std["rescaled"], std["conditional"], rtol=1e-5)
    assert (std["plain"] / std["conditional"] - 1).abs().max() > 0.01
    half = 0.5 * seen["rescaled"] + 0.5 * seen["plain"]
    sample(denoiser, guidance=Guidance(5.0, rescale=0.5), callback=watch("half"), **settings, **{"unconditional": {
        "label": NULL}})  # fmt: skip
    assert torch.allclose(seen["half"], half, atol=1e-5)


def test_autoguidance_mixes_in_the_other_network():
    def by_itself(y, t, label):
        weak = lesser(y, t, label)
        return weak + 2.0 * (row_wise(y, t, label) - weak)

    expected = sample(Denoiser(by_itself, VP, "v"), (2,), SDE, 7, condition={"label": LABEL})
    found = sample(DENOISER, (2,), SDE, 7, condition={"label": LABEL}, guidance=Guidance(2.0, network=lesser))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_a_negative_condition_is_what_the_sample_is_pushed_away_from():
    away = {"condition": {"label": LABEL}, "unconditional": {"label": (LABEL + 1) % 3}}

    def by_itself(y, t, label):
        other = row_wise(y, t, (label + 1) % 3)
        return other + 2.0 * (row_wise(y, t, label) - other)

    expected = sample(Denoiser(by_itself, VP, "v"), (2,), SDE, 7, condition={"label": LABEL})
    assert torch.allclose(sample(DENOISER, (2,), SDE, 7, guidance=2.0, **away), expected, rtol=0, atol=1e-5)


def test_bad_guidance_is_refused():
    for arguments, message in (
        ({"scale": math.nan}, "scale must be finite"),
        ({"interval": (0.5, 0.2)}, "interval must be"),
        ({"interval": 0.5}, "interval must be"),
        ({"rescale": 1.5}, r"rescale must be a number in \[0, 1\]; got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Guidance(**arguments)
    with pytest.raises(TypeError, match="scale must be a tensor, an array, or number"):
        Guidance("strong")
    with pytest.raises(TypeError, match="network must be callable or None; got int"):
        Guidance(network=3)
    with pytest.raises(ValueError, match="unconditional must be left out"):
        sample(DENOISER, (2,), SDE, 7, guidance=Guidance(2.0, network=lesser), **GUIDED)
