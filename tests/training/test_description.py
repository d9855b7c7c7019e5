"""What makes two runs one: every difference is named, and what may differ is none."""

import functools
import math

import pytest
import torch

import genfast as gf
from genfast.training.description import FREE, describe_model, describe_run, differences, table

SETTINGS = {"steps": 100, "batch": 8, "lr": 1e-3, "ema": [0.05], "decay": "cosine", "device": "cpu", "keep": 2}


class Own(torch.nn.Linear):
    """A network that genfast does not know."""


def net(width=8):
    return gf.nn.MLP(2, width=width, depth=1)


def data(shift=0.0, **more):
    generator = torch.Generator().manual_seed(0)
    return gf.data.arrays(torch.randn(20, 2, generator=generator) + shift, **more)


def described(model=None, points=None, test=None, **settings):
    model = gf.Diffusion(net(), shape=(2,)) if model is None else model
    return describe_run(model, data() if points is None else points, SETTINGS | settings, test)


def rows(there, here, measured=None):
    return differences(there | {"measured": measured}, here)


def test_the_same_run_twice():
    assert rows(described(), described()) == []
    assert rows(described(test=data()), described(test=data())) == []


@pytest.mark.parametrize("name", sorted(FREE))
def test_what_may_differ(name):
    assert rows(described(), described(**{name: "another"})) == []


def test_steps_may_be_raised_and_not_lowered():
    assert rows(described(), described(steps=101)) == []
    assert rows(described(), described(steps=99)) == [("steps", "100", "99")]


def test_every_other_setting_is_compared():
    assert rows(described(), described(lr=2e-3, ema=[0.05, 0.1])) == [
        ("lr", "0.001", "0.002"), ("ema", "[0.05]", "[0.05, 0.1]")
    ]  # fmt: skip
    assert rows(described(), described(clip=None)) == [("clip", "-", "null")]  # one that another genfast has
    assert rows(described(clip=1.0), described()) == [("clip", "1.0", "-")]


def test_functions_count_by_their_names():
    adam, sgd = (functools.partial(kind, weight_decay=0.1) for kind in (torch.optim.Adam, torch.optim.SGD))
    said = described(optimizer=adam, decay=math.cos)["settings"]
    assert said["decay"] == "math.cos"
    assert said["optimizer"]["keywords"] == {"weight_decay": 0.1}
    assert (
        rows(described(optimizer=adam), described(optimizer=functools.partial(torch.optim.Adam, weight_decay=0.1)))
        == []
    )
    (row,) = rows(described(optimizer=adam), described(optimizer=sgd))
    assert row[0] == "optimizer.partial" and "Adam" in row[1] and "SGD" in row[2]
    assert described(device=torch.device("cpu"))["settings"]["device"] == "cpu"
    for value in (object(), math.nan, {1, 2}):
        with pytest.raises(TypeError, match="settings must be what JSON can hold"):
            described(setting=value)


def test_data_are_compared_by_their_bytes():
    there = described()
    assert [row[0] for row in rows(there, described(points=data(1e-6)))] == ["data.sha256"]
    label = torch.arange(20) % 2
    found = rows(there, described(points=data(label=label, names=("a", "b"))))
    assert [row[0] for row in found] == ["data.classes", "data.names", "data.sha256"]
    other = described(points=data(label=label, names=("b", "a")))
    assert [row[0] for row in rows(described(points=data(label=label, names=("a", "b"))), other)] == ["data.names"]
    assert [row[0] for row in rows(there, described(test=data()))] == ["test"]
    assert [row[0] for row in rows(described(test=data()), described(test=data(1.0)))] == ["test.sha256"]
    with_condition = described(points=data(condition=torch.zeros(20, 1)))
    assert [row[0] for row in rows(there, with_condition)] == ["data.sha256"]


def test_models_are_compared_before_or_after_they_are_measured():
    """A run holds both descriptions; who goes on has a model as new, or the one that has just been trained."""
    new, wide = (describe_model(gf.Diffusion(net(width), shape=shape)) for width, shape in ((8, None), (16, None)))
    measured = describe_model(gf.Diffusion(net(), shape=(2,)))
    here = {"settings": {}, "data": {}, "test": None}
    there = here | {"model": new}
    assert rows(there, here | {"model": new}, measured) == []
    assert rows(there, here | {"model": measured}, measured) == []
    (row,) = rows(there, here | {"model": measured})
    assert row == ("model.config.shape", "null", "[2]")
    found = {row[0] for row in rows(there, here | {"model": wide}, measured)}
    assert "model.config.net.config.width" in found and "model.trained.numbers" in found


def test_networks_of_others_count_by_name_and_size():
    model = describe_model(gf.Diffusion(Own(2, 2), shape=(2,)))
    assert model["config"]["net"] == {"network": "Own", "config": None}
    assert model["trained"] == {"tensors": 2, "numbers": 6}
    assert "torch" not in model and "format" not in model  # another version is no other run


def test_the_table_can_be_read():
    text = table([("lr", "0.001", "0.002"), ("data.samples", "1797", "5")])
    assert text.splitlines() == [
        "    name          there  here",
        "    lr            0.001  0.002",
        "    data.samples  1797   5",
    ]
    (row,) = rows(described(), described(note="x" * 1000))
    assert len(row[2]) == 60 and row[2].endswith("...")
