"""What a model says of itself: whether it wants labels, and where its weights are."""

import torch
from toys import Gaussian, normal

import genfast as gf
from genfast.evaluation.model_traits import conditional, device_of


def test_labels_are_for_models_that_know_classes():
    x, label = normal(6, 3), torch.arange(6) % 2
    model = Gaussian(3)
    assert not conditional(model, gf.data.Data(x, label))
    model.classes = 2
    assert conditional(model, gf.data.Data(x, label)) and not conditional(model, gf.data.Data(x))


def test_where_the_weights_are():
    data = gf.data.Data(normal(6, 3))
    assert device_of(torch.nn.Linear(3, 3, device="meta"), data).type == "meta"
    assert device_of(torch.nn.Flatten(), data).type == device_of(Gaussian(3), data).type == "cpu"
    assert device_of(None, data).type == "cpu"
