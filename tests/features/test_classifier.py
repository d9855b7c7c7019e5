"""The classifier learns, says honestly how well, and is a function of its data and its seed."""

import pytest
import torch

from genfast.data.builtin import digits
from genfast.features import Classifier, Features, classifier, extract


def blobs(n, seed=0):
    """Three classes in two coordinates of very different units, and one that is constant."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 3
    angle = label * (2 * torch.pi / 3)
    x = torch.stack([angle.cos() * 1e-3, angle.sin() * 1e3, torch.full((n,), 7.0)], 1)
    return x + torch.tensor([2e-4, 2e2, 0]) * torch.randn(n, 3, generator=generator), label


def test_digits():
    train, test = digits("train"), digits("test")
    answer = classifier(train.x, train.label, train.classes)
    assert answer.accuracy >= 0.97
    probabilities = answer.probabilities(test.x)
    right = (probabilities.argmax(1) == test.label).double().mean().item()
    assert right >= 0.97 and abs(right - answer.accuracy) < 0.03
    assert probabilities.shape == (len(test), 10) and probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(test)))

    assert isinstance(answer, Features) and (answer.name, answer.dim) == ("classifier", 128)
    features = extract(answer, test.x)
    assert torch.equal(answer.classify(features), probabilities)
    for first, last in ((0, 1), (1, 130), (63, 65), (131, 449)):
        assert torch.equal(extract(answer, test.x[first:last]), features[first:last])
    centers = torch.stack([features[test.label == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(features, centers).argmin(1) == test.label).double().mean() > 0.9  # classes lie apart


def test_a_function_of_data_and_seed():
    x, label = blobs(60)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = (classifier(x, label, seed=seed, steps=5) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first(x), again(x)) and first.fingerprint == again.fingerprint
    assert not torch.equal(first(x), other(x)) and first.fingerprint != other.fingerprint
    changed = classifier(x, label.roll(1), seed=3, steps=5)
    assert changed.fingerprint != first.fingerprint


def test_vectors_of_any_units():
    x, label = blobs(300)
    answer = classifier(x, label, steps=100)
    new, truth = blobs(300, seed=1)
    assert answer.accuracy > 0.95
    assert (answer.probabilities(new).argmax(1) == truth).double().mean() > 0.95


def test_accuracy_is_of_samples_held_out():
    """With labels by lot there is nothing to learn but the training set by heart."""
    generator = torch.Generator().manual_seed(0)
    x, label = torch.randn(1000, 20, generator=generator), torch.randint(0, 2, (1000,), generator=generator)
    answer = classifier(x, label, steps=400)
    assert abs(answer.accuracy - 0.5) < 4 * (0.25 / 200) ** 0.5
    assert (answer.probabilities(x).argmax(1) == label).double().mean() > 0.75


@pytest.mark.parametrize("shape", [(3, 17, 9), (1, 40, 40), (2, 4, 4), (5, 2, 3, 4), (6,)])
def test_any_shape(shape):
    x = torch.randn(12, *shape, generator=torch.Generator().manual_seed(0))
    answer = classifier(x, torch.arange(12) % 2, classes=4, steps=2)
    assert answer(x).shape == (12, 128) and answer.probabilities(x).shape == (12, 4)
    assert 0 <= answer.accuracy <= 1


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"label": torch.zeros(20).long()}, ValueError, "label.*2 or more classes"),
        ({"label": torch.zeros(20)}, TypeError, "label.*float32"),
        ({"label": torch.arange(20) % 3 - 1}, ValueError, r"label must lie in \[0, 2\); got -1 in 7 of 20 samples"),
        ({"label": None}, ValueError, "label.*no classes"),
        ({"x": torch.zeros(8, 2), "label": torch.arange(8)}, ValueError, "label.*10 or more.*8 samples"),
        ({"classes": 1}, ValueError, "classes.*at least 2"),
        ({"seed": -1}, ValueError, "seed.*-1"),
        ({"steps": 0}, ValueError, "steps.*0"),
    ],
)
def test_bad_input(change, error, words):
    with pytest.raises(error, match=words):
        classifier(**{"x": torch.zeros(20, 2), "label": torch.arange(20) % 2} | change)


def test_untrained_has_no_accuracy():
    x, label = blobs(60)
    from genfast.data.dataset import arrays

    assert Classifier(arrays(x, label), seed=0).accuracy is None
