"""SampleSettings: checked once, the same in both public faces, and integers of any kind."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.diffusion import sampling
from genfast.diffusion.guidance.classifier_free import Guidance
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.sampling.settings import SampleSettings
from genfast.diffusion.solvers import plan

VP = schedules.VPLinear()
DENOISER = Denoiser(lambda y, t: torch.tanh(y), VP, "v")
PLAN = plan("dpmpp_2m_sde", VP, 3)
WHAT = {
    "denoiser",
    "shape",
    "plan",
    "index",
    "start",
    "source",
    "strength",
    "condition",
    "unconditional",
    "known",
    "mask",
}


def keywords(function):
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name != "self"}


def test_both_faces_have_every_setting_with_its_default():
    defaults = {field.name: field.default for field in dataclasses.fields(SampleSettings)}
    assert {name: value for name, value in keywords(sampling.sample).items() if name not in WHAT} == defaults
    of_model = keywords(gf.Diffusion.sample)
    own = {"device", "guidance"}  # the model's, and 1.0
    assert {name: of_model.get(name) for name in defaults.keys() - own} == {
        name: defaults[name] for name in defaults.keys() - own
    }
    assert WHAT - {"denoiser", "plan", "index", "unconditional"} <= of_model.keys()


def test_settings_are_as_they_are_used():
    settings = SampleSettings(
        seed=np.int64(3), chunk=torch.tensor(8), guidance=2, clamp=[-1, math.inf], threshold=np.float32(0.5),
        device="cpu", graph=np.False_,
    )  # fmt: skip
    assert type(settings.seed) is int and type(settings.chunk) is int and (settings.seed, settings.chunk) == (3, 8)
    assert isinstance(settings.guidance, Guidance) and settings.guidance.scale == 2
    assert settings.clamp == (-1.0, math.inf) and settings.threshold == 0.5 and settings.graph is False
    assert settings.device == torch.device("cpu")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.chunk = 4


@pytest.mark.parametrize("integer", [np.int32, np.uint8, torch.tensor, np.array])
def test_integers_of_any_kind_are_integers(integer):
    expected = sampling.sample(DENOISER, (2,), PLAN, 5, seed=7, chunk=4, progress=False)
    found = sampling.sample(
        DENOISER, integer(2), PLAN, 5, seed=integer(7), chunk=integer(4), progress=False
    )  # fmt: skip
    assert torch.equal(found, expected)
    queue = sampling.SampleQueue(DENOISER, (2,), capacity=integer(2))
    ticket = queue.add(integer(3), seed=integer(7), plan=PLAN)
    ((found, x),) = list(queue)
    assert found == ticket and torch.equal(x, expected[3])
    x, _ = sampling.sample_adaptively(DENOISER, integer(2), 3, seed=integer(7), chunk=integer(4), progress=False)
    assert torch.equal(x, sampling.sample_adaptively(DENOISER, (2,), 3, seed=7, chunk=4, progress=False)[0])


BAD = [
    ({"chunk": 0}, "chunk must be an integer of at least 1; got 0"),
    ({"chunk": 2.5}, "chunk must be an integer of at least 1; got 2.5"),
    ({"chunk": True}, "chunk must be an integer of at least 1; got True"),
    ({"seed": -1}, r"seed must be an integer from 0 to 2\^63 - 1; got -1"),
    ({"seed": 0.5}, r"seed must be an integer from 0 to 2\^63 - 1; got 0.5"),
    ({"seed": 2**63}, "seed must be an integer from 0"),
    ({"dtype": torch.bfloat16}, "dtype must be one of torch.float32, torch.float64; got torch.bfloat16"),
    ({"threshold": 0.0}, r"threshold must be a number in \(0, 1\]; got 0.0"),
    ({"threshold": 1.5}, r"threshold must be a number in \(0, 1\]; got 1.5"),
    ({"noise": "pink"}, "noise must be one of white, brownian; got 'pink'"),
    ({"graph": 1}, "graph must be one of True, False, auto; got 1"),
    ({"graph": "always"}, "graph must be one of True, False, auto; got 'always'"),
    ({"clamp": (1.0, -1.0)}, r"clamp must be \(low, high\) with low <= high; got \(1.0, -1.0\)"),
    ({"clamp": 1.0}, "clamp must be"),
    ({"clamp": (0.0, math.nan)}, "clamp must be"),
    ({"clamp": (None, 1.0)}, "clamp must be"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SampleSettings(**settings)
    with pytest.raises(ValueError, match=message):
        sampling.sample(DENOISER, (2,), PLAN, 3, progress=False, **settings)


def test_a_graph_that_there_cannot_be_is_said_where_it_was_asked_for():
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    for call in (
        lambda: sampling.sample(DENOISER, (2,), PLAN, 3, graph=True, progress=False),
        lambda: model.sample(3, steps=2, graph=True, progress=False),
    ):
        with pytest.warns(UserWarning, match=r"graph=True is ignored: there are no CUDA graphs on cpu") as warned:
            call()
        assert [warning.filename for warning in warned] == [__file__]
