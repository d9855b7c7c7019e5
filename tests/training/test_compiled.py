"""torch.compile by blocks: which, and that nothing of it stays."""

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.training.compiled import blocks, compiled
from genfast.training.loop import fit

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def test_what_stands_in_lists_is_a_block():
    mlp = gf.Diffusion(gf.nn.MLP(4, width=8, depth=3))
    assert blocks(mlp) == list(mlp.net.blocks)
    unet = gf.Diffusion(gf.nn.UNet(channels=1, width=8, groups=4, multipliers=(1, 2)))
    assert len(blocks(unet)) > 4 and not {id(b) for b in blocks(unet)} & {id(unet.net)}
    assert all(type(block).forward is not nn.Module.forward for block in blocks(unet))
    plain = gf.VAE(nn.Linear(4, 4), nn.Linear(2, 4), latent=2)
    assert blocks(plain)[:2] == [plain.encoder, plain.decoder]


def test_names_of_weights_stay_and_nothing_is_compiled_afterwards(monkeypatch):
    calls = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: calls.append(self))
    model = gf.Diffusion(gf.nn.MLP(4, width=8, depth=3))
    names = list(model.state_dict())
    with compiled(model):
        assert calls == list(model.net.blocks) and list(model.state_dict()) == names
    assert all(block._compiled_call_impl is None for block in model.net.blocks)
    with compiled(object()):
        pass


@pytest.mark.slow
def test_a_run_by_compiled_blocks_is_that_of_plain_ones():
    def run(**settings):
        torch.manual_seed(0)
        model = gf.Diffusion(gf.nn.MLP(4, width=8, depth=2))
        return fit(model, X, steps=3, batch=16, log_every=1, progress=False, **settings)

    plain, by_blocks = run(), run(compile=True)
    for log, other in zip(plain, by_blocks, strict=True):
        torch.testing.assert_close(log["loss"], other["loss"], rtol=1e-5, atol=0)
