"""What a model finds of each sample once: in memory, or in the folder of the run, where it outlasts the run."""

import json

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.common import processes
from genfast.data.dataset import Data
from genfast.training import encoded
from genfast.training.encoded import Rows, encoded_once

N = 150


def a_model(seed=0):
    torch.manual_seed(seed)
    vae = gf.vae.autoencoder_kl((8, 8), 1, latent=2, width=4, multipliers=(1, 2))
    return gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(features=32, width=8, depth=1, classes=3)))


def the_data():
    x = torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return gf.data.arrays(x, torch.arange(N) % 3)


def fit(model, data=None, steps=6, **settings):
    return gf.fit(model, data or the_data(), steps=steps, batch=40, log_every=1, progress=False, **settings)


def counted(model):
    """The model, with a list of how many rows each call of its encoder had."""
    rows = []
    model.vae.encoder.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    return model, rows


def test_each_sample_is_encoded_once():
    """And every loss is what it was, to rounding; of held-out data too."""
    model, rows = counted(a_model())
    found = fit(model, test=the_data(), test_every=2)
    assert sum(rows) == N + (1 + 3 * 64) + N  # for the scale; in three chunks of one shape; held out
    plain = a_model()
    plain.encoded = None
    for one, other in zip(found, fit(plain, test=the_data(), test_every=2), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        if "test_loss" in one:
            assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-6)


def test_a_run_that_goes_on_reads_what_is_there(tmp_path):
    settings = {"steps": 6, "batch": 40, "log_every": 1, "progress": False}
    for log in gf.Fit(a_model(), the_data(), out=tmp_path, **settings):
        if log["step"] == 3:
            break
    before = (tmp_path / encoded.FILE).stat().st_mtime_ns
    found = torch.stack(a_model().vae.encode(the_data().x), 1)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / encoded.FILE)), found)
    model, rows = counted(a_model())
    logs = gf.fit(model, the_data(), out=tmp_path, **settings)
    assert (tmp_path / encoded.FILE).stat().st_mtime_ns == before
    assert sum(rows) == N + 1  # for the scale, and for the shape
    assert [log["loss"] for log in logs] == [log["loss"] for log in fit(a_model())]


@pytest.mark.parametrize("kind", ["flipped", "cut", "unsealed", "note lost", "file lost", "other weights"])
def test_what_is_not_whole_or_not_of_this_is_made_anew(kind, tmp_path):
    """And said, but where nothing is there."""
    model, data = a_model(), the_data()
    encoded_once(model, data, tmp_path)
    path, note = tmp_path / encoded.FILE, tmp_path / encoded.NOTE
    whole = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif kind == "cut":
        path.write_bytes(whole[:-400])
    elif kind == "unsealed":
        note.write_text(json.dumps(json.loads(note.read_text()) | {"shape": [7]}))
    elif kind == "note lost":
        note.unlink()
    elif kind == "file lost":
        path.unlink()
    else:
        model = a_model(seed=1)
    words = {"flipped": "is damaged", "cut": "is damaged", "other weights": "is of other data or weights"}
    if kind == "file lost":
        encoded_once(model, data, tmp_path)
    else:
        with pytest.warns(UserWarning, match=words.get(kind, "has no whole latents.json beside it")) as said:
            found = encoded_once(model, data, tmp_path)
        assert len(said) == 1
        expected = torch.stack(model.vae.encode(data.x), 1)
        torch.testing.assert_close(found.x, expected)
    assert (path.read_bytes() == whole) == (kind != "other weights")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [encoded.NOTE, encoded.FILE]
    encoded_once(model, data, tmp_path)  # without a word


class Shifted:
    """Stands for an augmentation."""

    def __call__(self, x, seed, counter):
        return x + 0.1 * counter.view(-1, 1, 1, 1) % 2

    def centered(self, x):
        return x

    def shape(self, shape):
        return shape

    def described(self):
        return "shifted"


def test_what_changes_is_not_kept(tmp_path):
    data = Data(the_data().x, the_data().label, augment=Shifted())
    with pytest.warns(UserWarning, match="data may change from epoch to epoch: what the model's encoder finds"):
        assert encoded_once(a_model(), data, tmp_path) is data
    data = the_data()
    data.source.keepable = False
    with pytest.warns(UserWarning, match="data may change"):
        assert encoded_once(a_model(), data, tmp_path) is data
    assert not list(tmp_path.iterdir())


def test_a_run_that_does_not_see_all():
    """To encode them all would take longer."""
    data = the_data()
    assert encoded_once(a_model(), data, None, drawn=N - 1) is data
    assert encoded_once(a_model(), data, None, drawn=N).shape == (2, 2, 4, 4)
    model, rows = counted(a_model())
    fit(model, steps=3)
    assert sum(rows) == N + 3 * 40


def test_what_memory_has_no_room_for(monkeypatch, tmp_path):
    monkeypatch.setattr(encoded, "free_memory", lambda device: 10_000)
    data = the_data()
    with pytest.warns(UserWarning, match=r"3.84e-05 GB, is found again in every step: memory has room for 1e-05 GB"):
        assert encoded_once(a_model(), data, None) is data
    assert encoded_once(a_model(), data, tmp_path).shape == (2, 2, 4, 4)


def test_latents_of_the_shape_of_the_data():
    """Nobody could tell them apart."""

    class Doubled(torch.nn.Module):
        def forward(self, x):
            return x[:, 0], x[:, 1]

    vae = gf.VAE(Doubled(), torch.nn.Identity(), latent=5, shape=(2, 5))
    model, data = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(5, 8, 1))), Data(torch.randn(20, 2, 5))
    assert encoded_once(model, data, None) is data


def test_samples_that_are_not_finite_are_named(tmp_path):
    model = a_model()
    model.vae._posterior = lambda x, conditions: (x[:, :2] / 0, x[:, :2])
    with pytest.raises(FloatingPointError, match=r"samples \[0, 1, 2, 3, 4\] are not finite, as the model's encoder"):
        encoded_once(model, the_data(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_shares_are_the_whole(monkeypatch):
    """Of any number of processes, bit for bit."""
    model, data = a_model(), the_data()
    whole = np.concatenate([values for _, values in Rows(model, data, False)])
    for ranks in (2, 4):
        parts = []
        for rank in range(ranks):
            monkeypatch.setattr(processes, "world", lambda rank=rank, ranks=ranks: (rank, ranks))
            parts += list(Rows(model, data, False))
        assert [first for first, _ in parts] == [0, 64, 128]
        assert np.array_equal(np.concatenate([values for _, values in parts]), whole)
