"""Named sizes: their counts, without memory for their weights, and what they run on."""

import json

import pytest
import torch

from genfast.nn import NETWORKS, presets
from genfast.nn.presets import PRESETS


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_counts_and_shapes(name):
    preset = PRESETS[name]
    with torch.device("meta"):
        net = presets.build(name).eval()
        x = torch.empty(2, *preset.shape)
        assert net(x, torch.empty(2)).shape == x.shape
    assert count(net) == preset.parameters
    assert NETWORKS[type(net).__name__] is preset.network
    again = json.loads(json.dumps(net.config))
    with torch.device("meta"):
        assert count(preset.network(**again)) == preset.parameters


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.published])
def test_counts_are_those_of_the_papers(name):
    """But for what the presets say: the features of time, a predicted variance, the blocks that halve."""
    near = 0.07 if name == "adm_imagenet64" else 0.007
    assert PRESETS[name].parameters / 1e6 == pytest.approx(PRESETS[name].published, rel=near)


def test_changes_are_taken_and_presets_left_alone():
    net = presets.build("unet_8", channels=3, classes=10)
    assert (net.config["channels"], net.config["classes"]) == (3, 10)
    assert presets.build("unet_8").config["channels"] == 1
    with torch.device("meta"):
        steps = presets.build("ddpm_cifar10", timesteps={"shift": 1})
    assert count(steps) == 35_746_307  # the weights that were published
    with pytest.raises(ValueError, match=r"name must be one of mlp_small, .*; got 'dit'"):
        presets.build("dit")
