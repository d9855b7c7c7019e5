"""How labels and continuous conditions reach the network of a model: in training, sampling and guidance."""

import pytest
import torch
from helpers import perturbed

import genfast as gf
from genfast import ops
from genfast.common.conditions import as_conditions


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
    for index in range(6):
        queue.add(index, condition=VECTORS[index, None], steps=4)
    for index, x in queue:
        torch.testing.assert_close(x, whole[index])


def test_a_queue_takes_requests_with_and_without_a_condition():
    model = attributed_model(3)
    requests = [{"condition": VECTORS[:1]}, {}, {"label": 2}, {"condition": VECTORS[:1], "guidance": 2.0}]
    requests += [{"label": 1, "guidance": 2.0, "negative_label": 0}]
    queue = model.queue(capacity=3)
    for index, request in enumerate(requests):
        queue.add(index, steps=3, **request)
    found = dict(queue)
    for index, request in enumerate(requests):
        expected = model.sample([index], steps=3, progress=False, **request)[0]
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-5)


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
