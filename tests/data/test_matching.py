"""Data as a model or other data want them, for every family and both ways in: fit and evaluate."""

import re
import types
import warnings

import pytest
import torch
from families import NAMES, NULL, draw, family, images
from toys import normal

import genfast as gf
from genfast import ops
from genfast.common.measured import learn
from genfast.data.matching import for_model, for_training, matched, renumbered, told

DATA = gf.data.Data(normal(6, 4), torch.tensor([0, 1, 2] * 2), names=("cat", "dog", "horse"))
X, LABEL = images(), torch.arange(24) % 3
every = pytest.mark.parametrize("name", NAMES)


def fit(model, data, **settings):
    return gf.fit(model, data, **{"steps": 1, "batch": 8, "progress": False} | settings)


def evaluate(model, data, **options):
    few = {"steps": 1} if isinstance(model, gf.Diffusion | gf.LatentDiffusion) else {}
    return gf.evaluate(model, data, **{"metrics": "precision_recall", "sampling": few, "progress": False} | options)


ways = pytest.mark.parametrize("way", [fit, evaluate])


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Names ----------------------------------------------------------------------------------------------------------------


def test_classes_go_by_their_names():
    samples = gf.data.Data(normal(4, 4), torch.tensor([0, 1, -1, 0]), names=("cat", "horse"))
    found = matched(samples, DATA, "model")
    assert found.label.tolist() == [0, 2, -1, 0] and found.names == DATA.names and torch.equal(found.x, samples.x)
    other = gf.data.Data(samples.x, samples.label, names=("cat", "cow"))
    message = "train must have classes among cat, dog, horse; got cat, cow, of which cow is unknown"
    with pytest.raises(ValueError, match=message):
        matched(other, DATA, "train")


def test_classes_that_have_no_names_keep_their_numbers():
    samples = gf.data.Data(normal(4, 4), torch.tensor([0, 1, 1, 0]))
    assert matched(samples, DATA, "model") is samples and matched(DATA, samples, "model") is DATA
    assert renumbered(DATA, None, "data") is DATA


def test_levels_are_kept():
    data = DATA.replace(x=torch.zeros_like(DATA.x), condition=torch.ones(len(DATA), 2), levels=17)
    assert renumbered(data, data.names[::-1], "data").levels == 17
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        for classes, condition in ((0, 0), (len(data.names), 0), (0, 2), (len(data.names), 2)):
            model = types.SimpleNamespace(classes=classes, names=None, condition_width=condition)
            assert for_model(data, model).levels == 17
            assert for_model(data, model, tell=()).levels == 17


def test_another_shape():
    with pytest.raises(ValueError, match=r"train must hold samples of shape \(4,\), as data has; got \(3,\)"):
        matched(gf.data.Data(normal(4, 3)), DATA, "train")


@every
def test_a_model_learns_names_and_keeps_them(name, tmp_path):
    model = family(name)
    fit(model, (X, LABEL))
    assert model.names is None  # data without
    fit(model, gf.data.Data(X, LABEL, names=("cat", "dog", "eel")))
    assert model.names == ("cat", "dog", "eel")
    gf.save(model, tmp_path / "m")
    model = gf.load(tmp_path / "m")
    assert model.names == ("cat", "dog", "eel")
    assert torch.equal(draw(model, 2, label="eel"), draw(model, 2, label=2))
    part = gf.data.Data(X, 1 - LABEL.clamp(max=1), names=("eel", "dog"))  # dog, eel, eel, ...
    assert for_model(part, model).label.tolist() == [1, 2, 2] * 8
    for way in (fit, evaluate):
        with pytest.raises(ValueError, match="data must have classes among cat, dog, eel; got cat, fox, of which fox"):
            way(model, gf.data.Data(X, LABEL.clamp(max=1), names=("cat", "fox")))
    fit(model, (X, LABEL))  # numbers, as they are
    assert model.names == ("cat", "dog", "eel")


def test_data_in_another_order_train_the_same_weights():
    runs = []
    for names, label in ((("cat", "dog", "eel"), LABEL), (("eel", "cat", "dog"), (LABEL + 1) % 3)):
        model = family("diffusion")
        model.names = ("cat", "dog", "eel")
        fit(model, gf.data.Data(X, label, names=names), steps=3)
        runs.append(weights(model))
    assert torch.equal(*runs)


def test_more_names_than_classes():
    with pytest.raises(ValueError, match="data must have at most 2 classes, those of the model; got cat, dog, horse"):
        for_model(DATA, family("diffusion", classes=2))


def test_a_run_that_never_starts_leaves_no_names(tmp_path):
    (tmp_path / "log.jsonl").touch()
    model, data = family("diffusion"), gf.data.Data(X, LABEL, names=("cat", "dog", "eel"))
    with pytest.raises(FileExistsError):
        fit(model, data, out=tmp_path)
    assert model.names is None
    learn(object(), {"x": data.x, "names": data.names})  # a model of one's own, without classes


# Labels ---------------------------------------------------------------------------------------------------------------


@every
@ways
@pytest.mark.parametrize("shift, found", [(1, "3 in 8 of 24"), (2, "3, 4 in 16 of 24"), (-1, "-1 in 8 of 24")])
def test_labels_that_are_no_classes(name, way, shift, found):
    model = family(name)
    before, null = weights(model), name in NULL
    if shift == -1 and null:
        way(model, (X, LABEL - 1))
        return
    wanted = "[0, 3), or be -1 for unknown" if null else "[0, 3)"
    with pytest.raises(ValueError, match=re.escape(f"label must lie in {wanted}; got {found} samples")):
        way(model, (X, LABEL + shift))
    assert torch.equal(weights(model), before)


@every
@ways
def test_a_model_with_classes_needs_labels(name, way):
    with pytest.raises(ValueError, match="data must have labels, for the model has 3 classes; got none"):
        way(family(name), X)


@every
@ways
def test_labels_that_a_model_does_not_take_are_one_warning(name, way):
    model = family(name, classes=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way(model, gf.data.Data(X, LABEL, names=("a", "b", "c")))
    found = [w for w in caught if "labels, which" in str(w.message)]
    assert len(found) == 1 and model.names is None
    assert issubclass(found[0].category, UserWarning) and found[0].filename == __file__  # a line of the user's


def test_an_unknown_label_is_the_null_class():
    key, known = ops.make_key(0, 24), {"x": X}
    model = family("diffusion", label_dropout=0.0)
    with torch.no_grad():
        model.net.output.weight.normal_()
    unknown = model.loss({**known, "label": torch.full((24,), -1)}, key)
    assert torch.equal(unknown, model.loss(known, key))
    assert not torch.isclose(unknown, model.loss({**known, "label": LABEL}, key)).any()


@every
def test_loss_checks_labels_on_the_cpu(name):
    for label in (torch.full((24,), 3), torch.full((24,), -2)) + (() if name in NULL else (torch.full((24,), -1),)):
        with pytest.raises(ValueError, match=r"label must lie in \[0, 3\)"):
            family(name).loss({"x": X, "label": label}, ops.make_key(0, 24))


def test_a_model_of_ones_own_is_told_everything():
    data = gf.data.Data(X, LABEL + 7, condition=torch.randn(24, 2))
    assert for_model(data, object()) is data
    assert for_model(data, object(), tell=()).label is None and for_model(data, object(), tell=()).condition is None
    assert told(data, torch.tensor([3, 1]))["label"].tolist() == [7, 8]
    assert told(gf.data.Data(X), torch.tensor([3])) == {}


# Conditions -----------------------------------------------------------------------------------------------------------


@every
@ways
def test_conditions_are_checked(name, way):
    model = family(name, classes=0, condition=2)
    with pytest.raises(ValueError, match="data must have conditions, for the model takes 2 numbers a sample; got none"):
        way(model, X)
    with pytest.raises(ValueError, match=r"condition must have shape \(24, 2\), as the model takes it; got \(24, 3\)"):
        way(model, gf.data.Data(X, condition=torch.randn(24, 3)))
    way(model, gf.data.Data(X, condition=torch.randn(24, 2)))


@every
@ways
def test_conditions_that_a_model_does_not_take_are_one_warning(name, way):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way(family(name, classes=0), gf.data.Data(X, condition=torch.randn(24, 2)))
    assert len([w for w in caught if "have conditions, which" in str(w.message)]) == 1


# Ranges ---------------------------------------------------------------------------------------------------------------


def vae(likelihood):
    return family("vae", classes=0, likelihood=likelihood)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
@pytest.mark.parametrize("x", [(X > 0).float(), 3 * X, 255 * (X > 0).float(), X], ids=["0 to 1", "3", "255", "gray"])
@pytest.mark.filterwarnings("ignore:x lies from")
def test_data_that_a_likelihood_cannot_have_made(likelihood, x):
    if likelihood == "discretized_logistic" and x.max() == 1:  # its levels hold no 0
        x = x * 0.999
    for way in (fit, evaluate):
        with pytest.raises(ValueError, match=r"x must hold (-1 and 1 alone|256 levels)"):
            way(vae(likelihood), x)
    if x.max() > 1:
        with pytest.raises(ValueError, match="x must"):
            vae(likelihood).loss({"x": x}, ops.make_key(0, 24))


def test_data_that_a_likelihood_can_have_made():
    for x in (X.sign(), torch.ones(24, 1, 4, 4)):
        fit(vae("bernoulli"), x)
    fit(vae("discretized_logistic"), ((X + 1) * 127.5).round() / 127.5 - 1)


EIGHT_BIT = [
    ((X + 1) * 127.5, True),
    (((X + 1) * 127.5).round(), True),
    (((X + 1) * 8).round(), True),  # whole, and images: 16 levels
    ((X[:, 0, 0] + 1) * 127.5, True),  # vectors, of the whole range
    (((X[:, 0, 0] + 1) * 5).round(), False),  # counts
    (150 + 50 * X[:, 0, 0], False),  # a table, of centimeters
    ((X[:, 0, 0] + 1) * 5000, False),
    (X, False),
    ((X + 1) / 2, False),
    ((X > 0).float(), False),
    (X * 255, False),
]


@pytest.mark.parametrize("x, expected", EIGHT_BIT)
def test_8_bit_numbers_are_warned_of(x, expected):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert for_training(gf.data.Data(x), family("diffusion", classes=0)).x is not None
        for_training(gf.data.Data(x), object())  # a model of one's own may scale them itself
    messages = [str(w.message) for w in caught]
    assert len(messages) == expected and all("scale it first, e.g. x / 127.5 - 1" in message for message in messages)


def test_samples_of_another_shape_are_refused_before_training():
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    with pytest.raises(ValueError, match=r"data must hold samples of shape \(2,\), that of the model; got \(3,\)"):
        gf.Fit(model, torch.zeros(4, 3), steps=1)
    with pytest.raises(TypeError, match=r"^data: data must have tensors, .* got float as sample 0 of list$"):
        gf.Fit(model, [[0.0, 0.0]], steps=1)
    with pytest.raises(ValueError, match=r"^data: x must have at least one sample, of shape"):
        gf.Fit(model, torch.zeros(0, 2), steps=1)
