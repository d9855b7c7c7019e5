"""Pictures of samples: which ones, of what model, and that a training does not notice."""

import builtins
import warnings

import numpy as np
import pytest
import torch
from families import SHAPE, draw, family, images
from PIL import Image

import genfast as gf
from genfast.training.grids import draw_grid


def pixels(path):
    return np.asarray(Image.open(path))


class Recorder(torch.nn.Module):
    """Draws what it is asked for, and notes it."""

    def __init__(self, shape, classes=0, x=None):
        super().__init__()
        self.shape, self.classes, self.x = shape, classes, x
        self.dropout, self.asked = torch.nn.Dropout(), []

    def sample(self, n, *, seed=0, label=None, condition=None, progress=True):
        self.asked.append({"n": n, "seed": seed, "label": label, "condition": condition, "progress": progress})
        self.mode = self.training
        return torch.rand(n, *self.shape) if self.x is None else self.x


@pytest.mark.parametrize("name", ["diffusion", "vae", "gan", "latent"])
def test_every_family_is_drawn(name, tmp_path):
    """In a folder that is made, and the same samples whatever was drawn before."""
    model = family(name)
    for file in ("one.png", "two.png"):
        torch.rand(3)
        draw_grid(model, tmp_path / "samples" / file, data=gf.data.arrays(images(), torch.arange(24) % 3))
    assert pixels(tmp_path / "samples" / "one.png").shape == (8 * 42 + 2, 9 * 42 + 2)
    assert (pixels(tmp_path / "samples" / "one.png") == pixels(tmp_path / "samples" / "two.png")).all()


def test_the_samples_are_those_of_seed_0_in_columns_of_classes(tmp_path):
    model, label = family("vae"), torch.arange(64) % 3
    draw_grid(model, tmp_path / "grid.png")
    expected = gf.data.images.grid(draw(model, 64, label=label), columns=9, scale=10, padding=2)
    assert (pixels(tmp_path / "grid.png") == expected[:, :, 0]).all()


@pytest.mark.parametrize(
    "classes, columns, label",
    [(0, 8, None), (2, 8, [0, 1]), (3, 9, [0, 1, 2]), (10, 10, range(10)), (20, 8, range(20)), (640, 8, [0, 10, 20])],
)
def test_classes_are_spread(classes, columns, label, tmp_path):
    model = Recorder((1, 40, 40), classes)
    draw_grid(model, tmp_path / "grid.png")
    (asked,) = model.asked
    assert (asked["n"], asked["seed"], asked["progress"], asked["condition"]) == (64, 0, False, None)
    found = asked["label"]
    assert found is None if label is None else found[: len(label)].tolist() == [*label] and found.max() < classes
    assert pixels(tmp_path / "grid.png").shape[1] == columns * 42 + 2


def test_conditions_are_those_of_data_with_their_labels(tmp_path):
    condition = torch.arange(24.0)[:, None]
    data = gf.data.arrays(images(), torch.arange(24) % 3, condition=condition)
    model = Recorder(SHAPE, 3)
    draw_grid(model, tmp_path / "grid.png", data=data)
    asked = model.asked[0]
    assert asked["condition"].shape == (64, 1) and torch.equal(asked["label"], asked["condition"].flatten().long() % 3)


def test_black_and_white_are_those_of_the_data(tmp_path):
    x = torch.linspace(0, 255, 64).reshape(64, 1, 1, 1).expand(-1, 1, 40, 40)
    draw_grid(Recorder((1, 40, 40), x=x), tmp_path / "grid.png", data=gf.data.arrays(x.clone()))
    found = pixels(tmp_path / "grid.png")[20::42, 20::42]
    assert (found.flatten() == x[:, 0, 0, 0].round().numpy()).all()


@pytest.mark.parametrize("size", [1, 2, 10])
def test_vectors_are_points_beside_the_data(size, tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, size, generator=generator)
    model = Recorder((size,), 2, x=torch.randn(512, size, generator=generator) * 100)
    draw_grid(model, tmp_path / "points.png", data=gf.data.arrays(x, torch.arange(100) % 2))
    found = pixels(tmp_path / "points.png")
    assert found.shape == (340, 640, 3) and model.asked[0]["n"] == 512
    left, right = ((half.astype(int).std(2) > 20).sum() for half in (found[30:, :320], found[30:, 320:]))
    assert left > 300 and (size == 1 or right < 300)  # colored pixels: most samples lie far from the data
    draw_grid(model, tmp_path / "alone.png")
    assert pixels(tmp_path / "alone.png").shape == (340, 320, 3)


def test_a_training_does_not_notice(tmp_path):
    model = Recorder((1, 4, 4)).train()
    before = torch.get_rng_state()
    draw_grid(model, tmp_path / "grid.png")
    assert torch.equal(before, torch.get_rng_state()) and model.training and model.dropout.training and not model.mode


@pytest.mark.parametrize("error", [RuntimeError("no memory"), FloatingPointError("samples [0] are not finite")])
def test_what_cannot_be_drawn_is_said(error, tmp_path):
    model = Recorder((1, 4, 4))
    model.sample = lambda n, seed=0: (_ for _ in ()).throw(error)
    with pytest.warns(RuntimeWarning, match=f"no pictures of samples: {str(error)[:7]}"):
        draw_grid(model, tmp_path / "grid.png")
    with pytest.warns(RuntimeWarning, match="no pictures of samples: .*NaN"):
        draw_grid(Recorder((1, 4, 4), x=torch.full((64, 1, 4, 4), torch.nan)), tmp_path / "grid.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_grid(torch.nn.Linear(2, 2), tmp_path / "grid.png")  # which does not draw at all
    assert not list(tmp_path.iterdir())


def test_a_scatter_wants_matplotlib_and_a_training_does_not(tmp_path, monkeypatch):
    known = builtins.__import__

    def without(name, *more):
        return known("no_such_package" if name.startswith("matplotlib") else name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.warns(RuntimeWarning, match=r"no pictures of samples: No module.*pip install genfast\[demo\]"):
        draw_grid(Recorder((2,)), tmp_path / "points.png")
    draw_grid(Recorder((1, 4, 4)), tmp_path / "grid.png")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / "samples").write_text("mine")
    with pytest.raises(OSError, match="samples"):
        draw_grid(Recorder((1, 4, 4)), tmp_path / "samples" / "grid.png")
