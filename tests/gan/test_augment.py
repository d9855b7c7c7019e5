"""Augmentations: what each may do to an image, and that it is differentiable and repeatable."""

import pytest
import torch

from genfast.gan.augment import AUGMENTATIONS, augmented, color, cutout, translation
from genfast.ops import make_key


def images(n=6, dtype=torch.float32):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


def draws(*rows):
    return torch.tensor([list(row) + [0.0] * (4 - len(row)) for row in rows])


def test_translation():
    x = images(3)
    moved = translation(x, draws((0.5, 0.5), (0.99, 0.5), (0.5, 0.0)))
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[1, :, 1:], x[1, :, :-1]) and (moved[1, :, 0] == 0).all()
    assert torch.equal(moved[2, :, :, :-1], x[2, :, :, 1:]) and (moved[2, :, :, -1] == 0).all()


def test_cutout():
    hidden = cutout(torch.ones(2, 3, 8, 8), draws((0.5, 0.5), (0.0, 0.0))) == 0
    assert hidden[0, 0].sum() == 16 and hidden[0, :, 2:6, 2:6].all()
    assert hidden[1, 0].sum() == 4 and hidden[1, :, :2, :2].all()


def test_color():
    x = images(3)
    plain = color(x, draws((0.5, 0.5, 0.5), (0.75, 0.5, 0.5), (0.5, 0.0, 0.5)))
    torch.testing.assert_close(plain[0], x[0])
    torch.testing.assert_close(plain[1], x[1] + 0.25)
    torch.testing.assert_close(plain[2], x[2].mean(0, keepdim=True).expand(3, 8, 8))
    contrast = color(x[:1], draws((0.5, 0.5, 0.0)))
    assert contrast.std().item() == pytest.approx(x[:1].std().item() / 2, rel=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_differentiable(name):
    x, key = images(2, torch.float64)[:, :, :3, :3].requires_grad_(), make_key(3, 2)
    assert torch.autograd.gradcheck(lambda x: augmented(x, key, (name,), 0), (x,))


def test_function_of_the_key():
    x, key, names = images(), make_key(0, 6), tuple(AUGMENTATIONS)
    whole = augmented(x, key, names, 0)
    torch.testing.assert_close(augmented(x[2:4], key[2:4], names, 0), whole[2:4])
    assert not torch.equal(augmented(x, key, names, 1), whole)
    assert augmented(x, key, (), 0) is x
    with pytest.raises(ValueError, match=r"augment.*\(4, 2\)"):
        augmented(torch.zeros(4, 2), make_key(0, 4), names, 0)
