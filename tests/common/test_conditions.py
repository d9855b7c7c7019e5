"""How labels and continuous conditions reach the network of a model: in training, sampling and guidance."""

import numpy as np
import pytest
import torch
from families import NAMES, SHAPE, draw, family, images
from helpers import perturbed

import genfast as gf
from genfast import ops
from genfast.common.conditions import as_conditions, batch_conditions, condition_width, numbered, taken, takes


def attributed_model(classes=0, **settings):
    net = perturbed(gf.nn.MLP(2, width=32, depth=1, classes=classes, condition=3))
    return gf.Diffusion(net, "vp_cosine", "v", shape=(2,), **settings)


BATCH = {"x": torch.randn(64, 2, generator=torch.Generator().manual_seed(0))}
VECTORS = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))


def test_conditions_are_dropped_with_the_labels():
    model, key = attributed_model(3, label_dropout=0.5), ops.make_key(0, 64)
    given = BATCH | {"label": torch.arange(64) % 3, "condition": VECTORS.repeat(11, 1)[:64]}
    dropped = ops.uniform(key, (), ops.Purpose.LABEL) < 0.5
    assert 16 < dropped.sum() < 48
    loss = model.loss(given, key)
    model.label_dropout = 0.0
    kept, null = model.loss(given, key), model.loss(BATCH, key)
    torch.testing.assert_close(loss, torch.where(dropped, null, kept))
    assert ((kept - null).abs() > 1e-6).all()


def test_a_condition_reaches_every_sample():
    model, settings = attributed_model(), {"steps": 4, "progress": False}
    whole = model.sample(6, condition=VECTORS, **settings)
    some = model.sample([4, 1], condition=VECTORS[[4, 1]], **settings)
    assert torch.equal(some, whole[[4, 1]])
    same = model.sample(6, condition=VECTORS[:1], **settings)
    assert torch.equal(same[0], whole[0]) and not torch.isclose(same[1:], whole[1:]).any()
    null = model.sample(6, condition=torch.full((1, 3), torch.nan), **settings)
    torch.testing.assert_close(null, model.sample(6, **settings))
    x_t = torch.randn(6, 2)
    expected = model.denoiser(x_t, 0.5, condition=VECTORS)
    assert torch.equal(model.denoise(x_t, 0.5, condition=VECTORS), expected)
    assert not torch.isclose(expected, model.denoise(x_t, 0.5)).any()
    queue = model.queue(capacity=4)
    index_of = {queue.add(index, condition=VECTORS[index, None], steps=4): index for index in range(6)}
    for ticket, x in queue:
        torch.testing.assert_close(x, whole[index_of[ticket]])


def test_a_queue_takes_requests_with_and_without_a_condition():
    model = attributed_model(3)
    requests = [{"condition": VECTORS[:1]}, {}, {"label": 2}, {"condition": VECTORS[:1], "guidance": 2.0}]
    requests += [{"label": 1, "guidance": 2.0, "negative_label": 0}]
    queue = model.queue(capacity=3)
    tickets = [queue.add(index, steps=3, **request) for index, request in enumerate(requests)]
    found = dict(queue)
    for index, (ticket, request) in enumerate(zip(tickets, requests, strict=True)):
        expected = model.sample([index], steps=3, progress=False, **request)[0]
        torch.testing.assert_close(found[ticket], expected, rtol=1e-4, atol=1e-5)


def test_guidance_pushes_away_from_no_condition():
    model = attributed_model(3)
    x_t, t, label = torch.randn(6, 2), torch.full((6,), 0.5), torch.arange(6) % 3
    plan = gf.solvers.plan("ddim", model.schedule, 1)
    found = model.sample(6, label=label, condition=VECTORS, solver=plan, guidance=3.0, start=x_t, progress=False)
    t = torch.full((6,), float(plan.t[0]))
    with_both, null = model.denoise(x_t, t, label, VECTORS), model.denoise(x_t, t)
    torch.testing.assert_close(found, null + 3 * (with_both - null))
    away = model.sample(
        6, label=label, condition=VECTORS, negative_label=1, solver=plan, guidance=3.0, start=x_t, progress=False
    )
    other = model.denoise(x_t, t, 1)
    torch.testing.assert_close(away, other + 3 * (with_both - other))


def test_training_with_conditions_learns_them():
    """Data that its condition determines: what is sampled is what was asked for, and without asking it is spread."""
    torch.manual_seed(0)
    c = torch.rand(512, 1) * 2 - 1
    model = gf.Diffusion(gf.nn.MLP(2, width=32, depth=1, condition=1), "vp_cosine", "v")
    gf.fit(model, gf.data.arrays(torch.cat([c, -c], 1), condition=c), steps=200, lr=1e-2, progress=False)
    wanted = torch.linspace(-0.9, 0.9, 64)[:, None]
    found = model.sample(64, condition=wanted, steps=8, progress=False)
    assert (found - torch.cat([wanted, -wanted], 1)).abs().mean() < 0.15
    assert model.sample(64, steps=8, progress=False).std(0).amin() > 0.3


@pytest.mark.parametrize("label", [object(), [[0], [0, 1]], 0.5, True], ids=["object", "ragged", "float", "bool"])
def test_a_label_that_is_no_number_is_named(label):
    with pytest.raises(ValueError, match=r"label must be one integer or name, or \(2,\) of them; got"):
        as_conditions(2, 5, label)


PETS = ("cat", "dog", "3")


@pytest.mark.parametrize(
    "label, expected",
    [
        ("dog", [1, 1]),
        ("3", [2, 2]),  # a string is a name
        (np.str_("dog"), [1, 1]),
        (["3", "cat"], [2, 0]),
        (("dog", "dog"), [1, 1]),
        (np.array(["cat", "3"]), [0, 2]),
        (np.array(["cat", "3"], dtype=object), [0, 2]),
        (2, [2, 2]),
        ([0, 2], [0, 2]),
        (torch.tensor([1, -1]), [1, 3]),  # unknown is null
        (-1, [3, 3]),
        (None, [3, 3]),
    ],
    ids=repr,
)
def test_a_label_is_a_number_or_a_name(label, expected):
    assert as_conditions(2, 3, label, names=PETS)["label"].tolist() == expected


@pytest.mark.parametrize(
    "label, names, message",
    [
        ("cow", PETS, "label must be among cat, dog, 3; got 'cow'"),
        (["cat", "cow"], PETS, "label must be among cat, dog, 3; got 'cow'"),
        (["cat", 1], PETS, "label must be among cat, dog, 3; got 1"),
        ("2", PETS, "label must be among cat, dog, 3; got '2'"),
        (["cat"], PETS, r"label must be one integer or name, or \(2,\) of them; got torch.int64 \(1,\)"),
        ("1", None, "label must be a number, for the classes of this model have no names; got '1'"),
        (["1", "2"], None, r"label must be a number, .*; got \['1', '2'\]"),
        (3, PETS, r"label must lie in \[0, 3\), or be -1 for unknown; got 3 in 2 of 2"),
        ([-2, 5], PETS, r"label must lie in \[0, 3\), or be -1 for unknown; got -2, 5 in 2 of 2"),
    ],
)
def test_labels_that_are_no_class(label, names, message):
    with pytest.raises(ValueError, match=message):
        as_conditions(2, 3, label, names=names)
    with pytest.raises(ValueError, match=f"^negative_{message}"):
        as_conditions(2, 3, label, names=names, argument="negative_label")


def test_without_null_each_row_needs_a_class():
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\); got -1 in 1 of 2"):
        as_conditions(2, 3, [0, -1], null=False)
    with pytest.raises(ValueError, match="label is needed"):
        as_conditions(2, 3, null=False)
    assert numbered("dog", PETS) == 1 and numbered([1], None) == [1]


@pytest.mark.parametrize(
    "condition, expected",
    [
        (torch.tensor([True, False]), [[1.0], [0.0]]),
        (torch.tensor([[1, 2], [3, 4]]), [[1.0, 2.0], [3.0, 4.0]]),
        (torch.tensor([0.5, 1.5]), [[0.5], [1.5]]),
        (torch.tensor([[7]], dtype=torch.uint8), [[7.0], [7.0]]),
        ([[1.0], [2.0]], [[1.0], [2.0]]),
        (np.array([3, 4]), [[3.0], [4.0]]),
    ],
)
def test_conditions_of_other_kinds(condition, expected):
    found = as_conditions(2, 0, condition=condition)["condition"]
    assert found.is_floating_point() and found.tolist() == expected


@pytest.mark.parametrize(
    "condition, message",
    [
        (torch.tensor([[0.0], [torch.inf]]), "condition must be finite, or NaN where it is missing; got infinity"),
        (torch.tensor([-torch.inf, 0.0]), "condition must be finite"),
        (torch.zeros(3, 1), r"condition must hold real numbers, \(2, \*\) or \(1, \*\) for all"),
        (torch.zeros(2, 1) * 1j, "condition must hold real numbers"),
        (torch.zeros(()), "condition must hold real numbers"),
        ("red", "condition must hold numbers"),
        (torch.zeros(2, 4), r"condition must have shape \(2, 1\); got \(2, 4\)"),
    ],
)
def test_conditions_that_are_refused(condition, message):
    with pytest.raises(ValueError, match=message):
        as_conditions(2, 0, condition=condition, width=1)
    assert as_conditions(2, 0, condition=torch.tensor([[torch.nan]]))["condition"].isnan().all()


@pytest.mark.parametrize("label", [np.array([2, 1, 0])[::-1], np.array([0, 1, 2], ">i4"), np.array([0, 1, 2], "u2")])
@pytest.mark.parametrize("cast", [lambda rows: rows[::-1].copy()[::-1], lambda rows: rows.astype(">f8")])
def test_arrays_of_any_strides_and_bytes(label, cast):
    rows = np.arange(6.0).reshape(3, 2)
    found = as_conditions(3, 3, label, cast(rows))
    assert found["label"].tolist() == [0, 1, 2] and found["condition"].tolist() == rows.tolist()


@pytest.mark.parametrize(
    "value, words",
    [
        (np.ma.masked_array([0, 1], [0, 1]), "be an array without a mask; got a masked one"),
        (torch.tensor([0, 1]).to_sparse(), "be a dense tensor that holds its values; got a torch.sparse_coo one"),
        (torch.zeros(2, device="meta").long(), "be a dense tensor that holds its values; got a meta one"),
        (np.array([1, None]), "hold numbers of a type that torch has; got object"),
    ],
)
def test_arrays_of_other_kinds_are_refused_by_name(value, words):
    for argument in ("label", "condition"):
        with pytest.raises(TypeError, match=f"^{argument} must {words}"):
            as_conditions(2, 3, **{argument: value})


def test_another_default_device():
    kinds = [(1, [[1.0]]), ([0, 1], [[1.0], [2.0]]), (np.array([0, 1]), np.array([1, 2])), ("dog", torch.ones(2, 1))]
    expected = [as_conditions(2, 3, *given, names=PETS) for given in kinds]
    with torch.device("meta"):
        found = [as_conditions(2, 3, *given, names=PETS) for given in kinds]
    assert all(torch.equal(f[name], e[name]) for f, e in zip(found, expected) for name in ("label", "condition"))


def test_which_networks_take_a_condition():
    class Own(torch.nn.Module):
        def forward(self, x, condition=None):
            return x

    one, none = gf.nn.Decoder((4, 4), latent=2, width=4, condition=3), gf.nn.Decoder((4, 4), latent=2, width=4)
    assert condition_width(one) == condition_width(none, one) == condition_width(Own(), one) == 3
    assert condition_width(none) == condition_width(torch.nn.Linear(2, 2)) == condition_width(lambda y, t: y) == 0
    assert condition_width(Own()) is None and condition_width(lambda y, t, **rest: y) is None
    given = {"label": 1, "condition": torch.ones(1, 3)}
    assert taken(one, given).keys() == taken(Own(), given).keys() == given.keys() and taken(none, given) == {"label": 1}
    assert taken(one.double(), given)["condition"].dtype == torch.float64
    assert takes(print, "end") and not takes(Own().forward, "label")
    with pytest.raises(ValueError, match="condition was given to a model whose networks take none"):
        batch_conditions({"condition": torch.zeros(2, 3)}, 0, none, null=True)


def by_hand(name, model, label, condition=None):
    """All that takes a label, by its own name."""
    x, key = images(3), ops.make_key(0, 3)
    given = {"label": label} | ({} if condition is None else {"condition": condition})
    yield draw(model, 3, **given)
    if name == "diffusion":
        yield model.denoise(x, 0.5, **given)
        yield model.score(x, 0.5, **given)
        yield model.elbo(x, key, samples=1, **given)
        flow = {"divergence": "rademacher", "steps": 1, "progress": False}
        yield model.log_likelihood(x, **flow, **given)[0]
        yield model.bits_per_dim(x.sign(), levels=2, **flow, **given)[0]
        yield model.sample_adaptively(3, rtol=0.1, atol=0.1, progress=False, **given)[0]
        yield draw(model, 3, guidance=2.0, negative_label="cat", **given)
        queue = model.queue(capacity=2)
        queue.add(0, steps=2, **{name: value if name == "label" else value[:1] for name, value in given.items()})
        yield torch.stack([x for _, x in queue])
    if name == "vae":
        yield model.encode(x, **given)[0]
        yield model.decode(torch.ones(3, 2), **given)
        yield model.reconstruct(x, **given)
        yield model.elbo(x, key, **given)
        yield model.log_weights(x, key, 2, **given)
        yield model.log_likelihood(x, k=2, **given)[0]
        if condition is None or len(condition) == 1:
            yield model.interpolate(x[0], x[1], 3, **given)
            yield model.traverse(x[0], 0, n=3, **given)


@pytest.mark.parametrize("name", NAMES)
def test_names_wherever_a_label_is_taken(name):
    model = perturbed(family(name))
    model.names = PETS
    for by_name, by_number in zip(by_hand(name, model, "dog"), by_hand(name, model, 1), strict=True):
        assert torch.equal(by_name, by_number)
    assert torch.equal(draw(model, 3, label=["dog", "cat", "3"]), draw(model, 3, label=[1, 0, 2]))
    with pytest.raises(ValueError, match="label must be among cat, dog, 3; got 'cow'"):
        draw(model, 3, label="cow")


@pytest.mark.parametrize("name", NAMES)
def test_conditions_wherever_they_are_taken(name):
    """All of it depends on the condition, and a model that takes none says so."""
    model = perturbed(family(name, condition=2))
    model.names = PETS
    one, other = torch.tensor([[0.5, -1.0]]), torch.tensor([[2.0, 1.0]])
    for a, b in zip(by_hand(name, model, "dog", one), by_hand(name, model, "dog", other), strict=True):
        assert not torch.equal(a, b)
    assert torch.equal(draw(model, 3, label=1, condition=one), draw(model, 3, label=1, condition=one.expand(3, 2)))
    batch, key = {"x": images(3), "label": torch.tensor([0, 1, 2])}, ops.make_key(0, 3)
    losses = [model.loss(batch | {"condition": c.expand(3, 2)}, key) for c in (one, other)]
    losses = [torch.stack(list(loss)) if isinstance(loss, tuple) else loss for loss in losses]
    assert not torch.isclose(*losses).all(-1).any()  # a row or two may be without, by label_dropout
    with pytest.raises(ValueError, match=r"condition must have shape \(3, 2\); got \(1, 4\)"):
        draw(model, 3, label=1, condition=torch.zeros(1, 4))
    with pytest.raises(ValueError, match="condition was given to a model whose networks take none"):
        draw(family(name), 3, label=1, condition=one)


@pytest.mark.parametrize("name", NAMES)
def test_conditions_of_a_batch(name):
    """Of a loop of one's own: (B,) is (B, 1), of any real dtype; infinity is refused."""
    model, key, x = perturbed(family(name, 0, 1)), ops.make_key(0, 3), images(3)
    if name == "latent":
        model.scale.fill_(1.0)
        model.measured = True
    flags = torch.tensor([1, 0, 1])
    losses = [model.loss({"x": x, "condition": c}, key) for c in (flags[:, None].float(), flags, flags.bool())]
    losses = [torch.stack(list(loss)) if isinstance(loss, tuple) else loss for loss in losses]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
    with pytest.raises(ValueError, match="condition must be finite, or NaN where it is missing; got infinity"):
        model.loss({"x": x, "condition": torch.tensor([[1.0], [-torch.inf], [0.0]])}, key)


def test_networks_that_want_different_conditions_are_refused():
    one, other = family("vae", 0, 2), family("vae", 0, 3)
    model = gf.VAE(one.encoder, other.decoder, latent=2, shape=SHAPE)
    data = gf.data.arrays(images(3), condition=torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"condition must have one width for all networks .*; got networks of 2 and 3"):
        gf.fit(model, data, steps=1, progress=False)


def pairs():
    """Models of which one network takes a condition of 2 numbers."""
    bare, told = family("vae", 0), family("vae", 0, 2)
    yield gf.VAE(bare.encoder, told.decoder, latent=2, shape=SHAPE)
    yield gf.VAE(told.encoder, bare.decoder, latent=2, shape=SHAPE)
    bare, told = family("gan", 0), family("gan", 0, 2)
    yield gf.GAN(bare.generator, told.discriminator, latent=2, shape=SHAPE)
    yield gf.GAN(told.generator, bare.discriminator, latent=2, shape=SHAPE)
    for encoder, decoder, net in ((0, 2, 0), (2, 0, 0), (0, 0, 2)):
        vae = gf.VAE(family("vae", 0, encoder).encoder, family("vae", 0, decoder).decoder, latent=2, shape=SHAPE)
        model = gf.LatentDiffusion(vae, family("latent", 0, net).diffusion)
        model.scale.fill_(1.0)
        model.measured = True
        yield model


@pytest.mark.parametrize("number", range(7))
def test_networks_of_a_model_may_take_different_conditions(number):
    """It reaches the one that takes it, and nothing breaks on the way to the others."""
    model, key = perturbed([*pairs()][number]), ops.make_key(0, 3)
    assert model.condition_width == 2
    one, other = ({"condition": torch.tensor([[c, 1.0]]).expand(3, 2)} for c in (-1.0, 2.0))
    samples = [draw(model, 3, **c) for c in (one, other)]
    losses = [model.loss({"x": images(3)} | c, key) for c in (one, other)]
    losses = [torch.stack(list(loss)) if isinstance(loss, tuple) else loss[None] for loss in losses]
    generates, trains = number not in (1, 2, 5), number != 4  # an encoder or a discriminator draws nothing
    assert torch.equal(*samples) != generates
    assert torch.isclose(*losses).all(1).any() != trains


def test_classes_are_those_of_the_networks():
    nets = {"latent": 2, "width": 4}
    encoder, decoder = gf.nn.Encoder((4, 4), **nets), gf.nn.Decoder((4, 4), classes=3, **nets)
    generator = gf.nn.Generator((4, 4), classes=3, **nets)
    discriminator = torch.nn.DataParallel(gf.nn.Discriminator((4, 4), width=4, classes=3))
    models = [
        gf.VAE(encoder, decoder, latent=2),
        gf.GAN(generator, discriminator, latent=2),
        gf.Diffusion(torch.nn.DataParallel(gf.nn.MLP(2, width=8, depth=1, classes=3))),
    ]
    for model in models:
        assert model.classes == 3
        with pytest.raises(ValueError, match="data must have labels, for the model has 3 classes"):
            gf.fit(model, images(), steps=1)
    assert gf.VAE(encoder, decoder, latent=2, classes=0).classes == 0


MASKED = np.ma.masked_array(np.ones((4, 2)), mask=np.eye(4, 2) > 0)


@pytest.mark.parametrize(
    "use",
    [
        lambda: gf.Gaussian().fit(MASKED),
        lambda: gf.PPCA(1).fit(MASKED),
        lambda: gf.Gaussian.from_moments(torch.zeros(2), torch.ones(2)).log_prob(MASKED),
        lambda: gf.metrics.frechet(MASKED, np.ones((4, 2))),
        lambda: gf.metrics.likelihood(MASKED[:, 0], 2),
        lambda: gf.metrics.ImportanceWeights().update(MASKED),
        lambda: gf.GenerativeClassifier([gf.Gaussian(), gf.Gaussian()]).fit((MASKED, np.arange(4) % 2)),
        lambda: as_conditions(4, 3, label=MASKED[:, 0].astype(int)),
        lambda: as_conditions(4, 0, condition=MASKED),
    ],
)
def test_masks_are_refused(use):
    with pytest.raises(TypeError, match="must be an array without a mask; got a masked one"):
        use()


@pytest.mark.parametrize(
    "value", [[[1e39], [0.0]], np.array([[1e39], [0.0]]), torch.tensor([[1e39], [0]], dtype=torch.float64)]
)
def test_a_condition_that_float32_cannot_hold(value):
    words = r"condition must be finite, or NaN where it is missing; got 1e\+39, infinity in float32, in row 0$"
    with pytest.raises(ValueError, match=words):
        as_conditions(2, 0, condition=value)
    with pytest.raises(ValueError, match=words):
        gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, condition=1), shape=(2,)).sample(2, condition=value, progress=False)
    with pytest.raises(ValueError, match=r"got infinity in row 1$"):
        as_conditions(2, 0, condition=[[0.0], [torch.inf]])


def test_conditions_as_numbers_whatever_the_default_dtype_is(default_dtype):
    expected = as_conditions(2, 3, [0, 1], [[0.1, 0.7], [3, 4]])
    with default_dtype():
        found = as_conditions(2, 3, [0, 1], [[0.1, 0.7], [3, 4]])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["condition"].dtype == torch.float32 and found["label"].dtype == torch.int64


NETS = {"size": (4, 4), "latent": 2, "width": 4, "classes": 3}


@pytest.mark.parametrize("make", [
    lambda classes: gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, classes=3), classes=classes),
    lambda classes: gf.VAE(*(net(**NETS) for net in (gf.nn.Encoder, gf.nn.Decoder)), latent=2, classes=classes),
    lambda classes: gf.GAN(
        gf.nn.Generator(**NETS), gf.nn.Discriminator((4, 4), width=4, classes=3), latent=2, classes=classes
    ),
])  # fmt: skip
def test_no_more_classes_than_the_networks_know(make):
    assert [make(classes).classes for classes in (None, 3, 2, 0)] == [3, 3, 2, 0]
    for classes in (4, 10**18):
        with pytest.raises(ValueError, match=f"^classes must be at most 3, .* the networks know; got {classes}$"):
            make(classes)


def test_batches_that_are_refused():
    model, key = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, classes=3, condition=1), shape=(2,)), gf.ops.make_key(0, 4)
    x, label = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    for batch, kind, words in (
        (None, TypeError, "batch must be a dict with x, .*; got NoneType"),
        ([x], TypeError, "batch must be a dict with x, .*; got list"),
        ({"label": label}, TypeError, r"batch must be a dict with x, .*; got \['label'\]"),
        ({"x": x.numpy().tolist()}, TypeError, "x must be a tensor or an array; got list"),
        ({"x": x[:, :1]}, ValueError, r"x must have shape \(B, 2\); got \(4, 1\)"),
        ({"x": x, "label": [0] * 4}, ValueError, "label must hold integers; got list"),
        ({"x": x, "label": label[:3]}, ValueError, r"label must have shape \(4,\), one a sample; got \(3,\)"),
        ({"x": x, "label": label, "condition": "red"}, TypeError, "condition must be a tensor of real numbers, .* str"),
        ({"x": x, "label": label, "condition": x[:3, :1]}, ValueError, r"condition must have shape \(4, \*\), a row"),
    ):
        with pytest.raises(kind, match=words):
            model.loss(batch, key)
    for wrong, kind, words in (
        (None, TypeError, r"key must be a tensor \(4, 2\), one row a sample; got NoneType"),
        (key[:3], ValueError, r"key must have shape \(4, 2\), one row a sample; got \(3, 2\)"),
        (key.double(), ValueError, "key must be int64, as make_key gives it; got torch.float64"),
    ):
        with pytest.raises(kind, match=words):
            model.loss({"x": x, "label": label}, wrong)
