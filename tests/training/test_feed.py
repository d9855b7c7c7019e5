"""Several processes are fed, together, what one is."""

import pytest
import torch

import genfast as gf
from genfast.training.feed import Feed
from genfast.training.loop import Fit


@pytest.fixture
def settings():
    run = Fit(gf.Diffusion(gf.nn.MLP(2, width=8, classes=3)), data(), steps=3, batch=10, seed=3, critic_steps=1)
    run.settings.critic_steps = 2
    return run.settings


def data():
    return gf.data.arrays(torch.arange(34.0, device="cpu").view(17, 2), torch.arange(17, device="cpu") % 3)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shares_are_the_whole(settings, ranks):
    device = torch.device("cpu")
    whole = Feed(data(), settings, device)
    parts = [Feed(data(), settings, device, rank, ranks) for rank in range(ranks)]
    for step in range(3):
        fed = [part(step) for part in parts]
        for turn, (batch, key) in enumerate(whole(step)):
            assert torch.equal(key, torch.cat([rows[turn][1] for rows in fed]))
            assert torch.equal(batch["x"], torch.cat([rows[turn][0]["x"] for rows in fed]))
            assert torch.equal(batch["label"], torch.cat([rows[turn][0]["label"] for rows in fed]))
            assert key[0].tolist() == [3, 20 * step + 10 * turn] and len(key) == 10
        last, key = parts[-1].whole(step)
        assert torch.equal(key, whole(step)[-1][1]) and torch.equal(last["x"], whole(step)[-1][0]["x"])
