import types

import torch

from genfast.common.measured import learn

BATCH = {"x": torch.zeros(5, 3, 2), "names": ("cat", "dog"), "levels": 17}


def test_what_is_not_known_yet_is_learned_once():
    model = types.SimpleNamespace(shape=None, names=None, levels=None, classes=2)
    learn(model, BATCH)
    assert (model.shape, model.names, model.levels) == ((3, 2), ("cat", "dog"), 17)
    learn(model, {"x": torch.zeros(5, 4), "names": ("a", "b"), "levels": 256})
    assert (model.shape, model.names, model.levels) == ((3, 2), ("cat", "dog"), 17)


def test_only_what_the_model_has_and_the_data_say():
    model = types.SimpleNamespace(names=None, levels=None, classes=0)
    learn(model, BATCH | {"levels": None})
    assert vars(model) == {"names": None, "levels": None, "classes": 0}
