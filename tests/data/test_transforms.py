"""Flips and crops: functions of (seed, counter), which nobody but training sees."""

import numpy as np
import pytest
import torch
from torch import nn

import genfast as gf
from genfast.data.dataset import Data
from genfast.data.transforms import Augment

X = torch.arange(6 * 2 * 5 * 7, dtype=torch.float32).view(6, 2, 5, 7)


def by_hand(x, seed, counter, flip, h, w):
    """One image, from the words of Philox: top and left from u_1 and u_2, flipped if u_0 < 1/2."""
    key = gf.ops.make_key(seed, [counter])
    u = gf.ops.noise_reference(key, (3,), gf.ops.Purpose.AUGMENT, uniform=True)[0].tolist()
    top, left = int(u[1] * (x.shape[1] - h + 1)), int(u[2] * (x.shape[2] - w + 1))
    cut = x[:, top : top + h, left : left + w]
    return cut.flip(2) if flip and u[0] < 0.5 else cut


@pytest.mark.parametrize("flip, crop", [(True, None), (False, (3, 4)), (True, (3, 4)), (True, (5, 7))])
def test_a_batch_is_what_the_words_say(flip, crop):
    augment, counter = Augment(flip, crop), torch.tensor([0, 1, 2, 2**40, 4, 5])
    out = augment(X, 7, counter)
    expected = [by_hand(x, 7, int(c), flip, *(crop or (5, 7))) for x, c in zip(X, counter)]
    assert torch.equal(out, torch.stack(expected)) and out.is_contiguous()
    assert torch.equal(augment(X[2:4], 7, counter[2:4]), out[2:4])
    bytes_ = (X % 256).to(torch.uint8)
    assert torch.equal(augment(bytes_, 7, counter), out.remainder(256).to(torch.uint8))
    assert torch.equal(augment(X.contiguous(memory_format=torch.channels_last), 7, counter), out)


def test_half_are_flipped_and_all_places_are_found():
    places = torch.arange(5 * 7, dtype=torch.float32).view(1, 1, 5, 7).expand(4000, 1, 5, 7)
    out = Augment(True, (3, 4))(places, 0, torch.arange(4000))
    flipped = out[:, 0, 0, 0] > out[:, 0, 0, 1]
    assert abs(int(flipped.sum()) - 2000) < 5 * np.sqrt(1000)
    corner = torch.minimum(out[:, 0, 0, 0], out[:, 0, 0, -1]).long()
    counts = torch.bincount(corner, minlength=35).view(5, 7)
    assert bool((counts[:3, :4] > 250).all()) and int(counts[:3, :4].sum()) == 4000  # 333 each


def test_data_are_augmented_in_batches_only():
    data = Data(X, torch.arange(6), condition=torch.arange(6.0)).augmented(crop=(3, 4))
    center = X[:, :, 1:4, 1:5]
    assert data.shape == (2, 3, 4) and torch.equal(data.x, center)
    assert torch.equal(data.rows([4, 0])["x"], center[[4, 0]])
    batch, other = data.batch(3, 4, 5), data.batch(3, 6, 3)
    assert torch.equal(batch["x"][2:], other["x"]) and torch.equal(batch["condition"][:, 0], batch["label"].float())
    expected = [by_hand(X[n], 3, 4 + place, True, 3, 4) for place, n in enumerate(batch["label"].tolist())]
    assert torch.equal(batch["x"], torch.stack(expected))
    assert not torch.equal(data.batch(3, 10, 5)["x"], batch["x"]) and data.fingerprint()["augment"] == {
        "flip": True, "crop": [3, 4],
    }  # fmt: skip
    assert torch.equal(Data(X).augmented(flip=False).batch(0, 0, 6)["x"], Data(X).batch(0, 0, 6)["x"])


def test_bytes_are_augmented_as_they_are_read():
    image = torch.randint(0, 256, (6, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_bytes, of_floats = gf.data.arrays(image), gf.data.arrays(image.permute(0, 3, 1, 2).float() / 127.5 - 1)
    batches = [data.augmented(crop=(4, 4)).batch(1, 0, 9)["x"] for data in (of_bytes, of_floats)]
    assert torch.equal(*batches) and of_bytes.augmented().levels == 256


class Seen(nn.Module):
    """Remembers what it was trained on, and looked at."""

    def __init__(self):
        super().__init__()
        self.weight, self.trained, self.looked = nn.Parameter(torch.zeros(1)), [], []

    def loss(self, batch, key, *, step=0):
        (self.trained if self.training else self.looked).append(batch["x"])
        return (self.weight - batch["x"].flatten(1).mean(1)).square()


def test_training_sees_them_and_looks_at_held_out_data_do_not():
    model, data, test = Seen(), Data(X).augmented(crop=(3, 4)), Data(X + 1).augmented(crop=(3, 4))
    gf.fit(model, data, test=test, steps=2, batch=6, progress=False)
    assert torch.equal(model.trained[1], data.batch(0, 6, 6)["x"])
    center = {tuple(x.flatten().tolist()) for x in (X + 1)[:, :, 1:4, 1:5]}
    assert {tuple(x.flatten().tolist()) for x in model.looked[-1]} == center


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Data(torch.zeros(4, 3)).augmented(), r"data must be images, .* to be augmented; got shape \(3,\)"),
        (
            lambda: Data(X).augmented(crop=(6, 7)),
            r"crop must be at most \(5, 7\), the height and width .*; got \(6, 7\)",
        ),
        (lambda: Data(X).augmented(crop=(0, 2)), "crop must be an integer of at least 1; got 0"),
        (lambda: Data(X).augmented(crop=(-1, 2)), "crop must be an integer of at least 1; got -1"),
        (lambda: Data(X).augmented(crop=3), r"crop must be \(height, width\) or None; got 3"),
        (lambda: Data(X).augmented(crop="ab"), r"crop must be \(height, width\) or None; got 'ab'"),
        (lambda: Data(X).augmented(flip=1), "flip must be True or False; got 1"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
