"""Presets: what they build of data, whatever their sizes, and what they say where they cannot."""

import math

import pytest
import torch

import genfast as gf
from genfast.cli import presets
from genfast.cli.train import Training
from genfast.common.keys import make_key


def images(*size, channels=1):
    x = torch.rand(6, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return gf.data.arrays(x, torch.arange(6) % 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (28, 28), (32, 17), (64, 64)])
@pytest.mark.parametrize("build", [presets.unet, presets.fine_unet, presets.vae, presets.gan])
def test_a_model_of_pictures_of_any_size(build, size):
    """Of which every player has a loss."""
    data = images(*size, channels=3)
    model, batch = build(data), data.batch(0, 0, 2)
    key = make_key(0, 2)
    for player in getattr(model, "players", dict)() or [None]:
        told = {} if player is None else {"player": player}
        assert model.loss(batch, key, **told).isfinite().all()
    assert model.classes == 2


def test_what_is_no_picture():
    points = gf.data.toy("moons", 20)
    assert presets.fitting(points).classes == points.classes
    for build in (presets.unet, presets.fine_unet, presets.vae, presets.gan):
        with pytest.raises(ValueError, match=r"data must be images, .*got shape \(2,\)"):
            build(points)


def test_pictures_that_are_too_large():
    with pytest.raises(ValueError, match="at most 128 pixels a side"):
        presets.unet(images(256, 8))


def test_a_fine_unet_learns_at_little_noise_too():
    """Of emoji the default's training times have log sigma ~ N(1.29, 1): 0.6 % of them lie below sigma = 0.3."""
    model = presets.fine_unet(images(8, 8))
    log_snr = model.log_snr(make_key(0, 2000))
    assert (log_snr > -2 * math.log(0.3)).double().mean() > 0.1


def test_settings_are_settings():
    for preset in presets.PRESETS.values():
        assert preset.settings.keys() <= Training.__annotations__.keys()


def test_a_network_by_name():
    model = presets.named("mlp_small")(gf.data.toy("moons", 20))
    assert type(model.net).__name__ == "MLP" and model.net.training
    assert presets.named("unet_8")(images(9, 9)).net.pad
    with pytest.raises(ValueError, match="net dit_8 does not take samples of shape"):
        presets.named("dit_8")(images(9, 9))


def test_a_run_that_only_python_can_repeat(tmp_path):
    gf.fit(
        gf.Diffusion(gf.nn.MLP(2, 8)), torch.randn(20, 2), steps=1, batch=2, out=tmp_path, optimizer=torch.optim.SGD,
        progress=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="config must be a run that the command can repeat"):
        presets.of_run(tmp_path)
