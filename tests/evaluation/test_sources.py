"""Where samples come from, and that a source's sample i is always the same."""

import numpy as np
import pytest
import torch
from toys import CountOnly, Gaussian, normal

import genfast as gf
from genfast.evaluation.chunks import CHUNK, stream
from genfast.evaluation.reading import Reader
from genfast.evaluation.sources import Held, as_source, opened
from genfast.evaluation.splits import subset

DATA = gf.data.Data(normal(100, 4))


def source(value, n=None, seed=0, settings=None, data=DATA):
    return as_source(value, data, Reader(), n=n, seed=seed, settings=settings)


def everything(source):
    return stream(source, lambda x: x, device="cpu", what="samples", progress=False)


def test_a_model_is_asked_by_index():
    asked = []

    class Spy(Gaussian):
        def sample(self, n, seed=0):
            asked.append(n)
            return super().sample(n, seed)

    drawn = source(Spy(4), n=150, seed=7)
    assert torch.equal(everything(drawn), Gaussian(4).sample(150, seed=7))
    assert [index.tolist() for index in asked] == [list(range(i, min(i + CHUNK, 150))) for i in (0, 64, 128)]
    assert torch.equal(drawn.draw(torch.tensor([149, 3])), Gaussian(4).sample([149, 3], seed=7))
    assert source(Gaussian(4)).n == 100


def test_a_model_that_takes_a_number_is_asked_once():
    model = CountOnly(4)
    drawn = source(model, n=150)
    assert torch.equal(everything(drawn), model.sample(150)) and model.calls == [150, 150]
    assert torch.equal(drawn.draw(torch.tensor([5])), model.sample(150)[5:6])
    one = source(CountOnly(4), n=1)
    assert torch.equal(everything(one), CountOnly(4).sample(1))


def test_settings_reach_the_model():
    class Settled(Gaussian):
        def sample(self, n, seed=0, steps=1, progress=True):
            assert not progress
            return steps * super().sample(n, seed)

    assert torch.equal(everything(source(Settled(4), settings={"steps": 3})), 3 * Gaussian(4).sample(100))


def test_the_chunk_is_stated_of_our_models_and_left_to_others():
    class Other(Gaussian):
        """Whose chunk is its own, and which has no parameters."""

        def sample(self, n, seed=0, chunk=None):
            assert chunk is None
            return super().sample(n, seed)

    other = source(Other(4))
    assert other.stated == {} and torch.equal(everything(other), Gaussian(4).sample(100))
    ours = gf.Diffusion(gf.nn.MLP(4, 8), shape=(4,))
    assert source(ours, settings={"steps": 2}).stated == {"steps": 2, "chunk": 64}
    assert source(ours, settings={"chunk": 8}).stated == {"chunk": 8}


def test_errors_of_a_model_come_through():
    class Broken(Gaussian):
        def sample(self, n, seed=0):
            raise ValueError("steps must be at least 1")

    with pytest.raises(ValueError, match="steps must be at least 1"):
        everything(source(Broken(4)))
    with pytest.raises(ValueError, match=r"model must draw samples of shape \(64, 4\), .*; got \(64, 3\)"):
        everything(source(Gaussian(3)))
    with pytest.raises(ValueError, match="model must draw finite samples"):
        everything(source(Gaussian(4, scale=float("nan"))))
    with pytest.raises(ValueError, match=r"sampling must have settings of Gaussian\.sample; got steps"):
        everything(source(Gaussian(4), settings={"steps": 3}))


def test_an_error_in_a_later_chunk_is_not_tried_again():
    class Breaks(Gaussian):
        asked = ()

        def sample(self, n, seed=0):
            self.asked += (n if isinstance(n, int) else len(n),)
            if len(self.asked) == 2:
                raise RuntimeError("out of memory")
            return super().sample(n, seed)

    model = Breaks(4)
    with pytest.raises(RuntimeError, match="out of memory"):
        everything(source(model))
    assert model.asked == (64, 36)


def test_samples_of_every_form(tmp_path):
    x = normal(70, 4, seed=2)
    np.save(tmp_path / "x.npy", x.numpy())
    for value in (
        x,
        x.numpy(),
        x.double(),
        gf.data.Data(x),
        (x, torch.zeros(70, dtype=torch.int64)),
        tmp_path / "x.npy",
    ):
        assert torch.equal(everything(source(value)), x)
    assert source(tmp_path / "x.npy").name == "x.npy"


def test_a_part_of_what_is_there_already():
    x = torch.arange(70.0)[:, None]
    part = everything(source(x, n=20, data=gf.data.Data(x))).flatten()
    assert torch.equal(part.long(), subset(70, 20, 0))
    assert torch.equal(everything(source(x, data=gf.data.Data(x))), x)


def test_labels_go_with_their_samples():
    x, label = torch.arange(70.0)[:, None], torch.arange(70)
    part = Held("x", gf.data.Data(x, label), 20, seed=4)
    assert torch.equal(part.draw(torch.arange(20)).flatten(), part.label.float())


def test_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    model = gf.Diffusion(gf.nn.MLP(4, 8), shape=(4,))
    gf.save(model, tmp_path / "run")
    drawn = source(opened(tmp_path / "run"), n=5, settings={"steps": 2})
    assert drawn.name == "Diffusion" and torch.equal(everything(drawn), model.sample(5, steps=2))
    assert drawn.fingerprint == source(model).fingerprint


def test_images_of_a_folder(tmp_path):
    x = normal(3, 12).view(3, 3, 2, 2).clamp(-1, 1)
    for i, image in enumerate(x):
        gf.data.save_png(tmp_path / f"{i}.png", image[None], padding=0)
    found = everything(source(tmp_path, data=gf.data.Data(x)))
    assert (found - x).abs().max() <= 1 / 255


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        source(tmp_path / "nothing.npy")
