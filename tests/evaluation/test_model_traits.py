"""What a model is told of the data, and where its weights are."""

import pytest
import torch
from toys import Gaussian, normal

import genfast as gf
from genfast.evaluation.model_traits import as_told, device_of

X, LABEL, CONDITION = normal(6, 3), torch.arange(6) % 2, normal(6, 2, seed=1)
DATA = gf.data.Data(X, LABEL, condition=CONDITION)


class Conditioned(Gaussian):
    def sample(self, n, seed=0, label=None, condition=None):
        return super().sample(n, seed)


def test_labels_are_for_models_that_know_classes():
    model = Conditioned(3)
    found = as_told(DATA, model, {})
    assert found.label is None and torch.equal(found.condition, CONDITION)
    model.classes = 2
    assert torch.equal(as_told(DATA, model, {}).label, LABEL)
    with pytest.raises(ValueError, match="data must have labels"):
        as_told(gf.data.Data(X), model, {})
    assert as_told(gf.data.Data(X), model, {"label": 1}).label is None


def test_conditions_are_for_models_that_take_them():
    with pytest.warns(UserWarning, match=r"data have conditions, which Gaussian.sample does not take"):
        assert as_told(DATA, Gaussian(3), {}).condition is None
    model = Conditioned(3)
    model.condition_width = 5
    with pytest.raises(ValueError, match=r"condition must have shape \(6, 5\)"):
        as_told(DATA, model, {})
    with pytest.raises(ValueError, match="data must have conditions"):
        as_told(gf.data.Data(X), model, {})
    assert as_told(gf.data.Data(X), model, {"condition": torch.zeros(1, 5)}).condition is None


def test_where_the_weights_are():
    data = gf.data.Data(normal(6, 3))
    assert device_of(torch.nn.Linear(3, 3, device="meta"), data).type == "meta"
    assert device_of(torch.nn.Flatten(), data).type == device_of(Gaussian(3), data).type == "cpu"
    assert device_of(None, data).type == "cpu"
