"""VAE in other dtypes than float32: nets in bfloat16, autocast, data in float64."""

import pytest
import torch
from vaes import KEY, data, model

from genfast import ops
from genfast.vae.likelihoods import LIKELIHOODS, Gaussian


def observations(name):
    x = data().clamp(-1, 1)
    return {"bernoulli": x.sign(), "discretized_logistic": ((x + 1) * 127.5).round() / 127.5 - 1}.get(name, x)


def by_hand(vae, x):
    """-ELBO from the networks' outputs as they are, in float64 from there on."""
    dtype = next(vae.encoder.parameters()).dtype
    mu, logvar = (t.double() for t in vae.encoder(x.to(dtype)).chunk(2, 1))
    z, kl = ops.reparameterize(mu, logvar, KEY)
    f = vae.decoder(z.float().to(dtype)).double()
    return kl - vae.likelihood.double().log_prob(x.double(), f)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("way", ["autocast", "weights"])
def test_bfloat16_is_for_the_networks_only(name, way):
    likelihood = Gaussian(0.1) if name == "gaussian" else LIKELIHOODS[name]()
    vae, x = model(likelihood), observations(name)
    if name in ("learned_variance", "discretized_logistic"):
        likelihood.free.data.fill_(-0.437)
    if way == "weights":
        vae.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        loss, elbo = vae.loss({"x": x}, KEY), vae.elbo(x, KEY)
        weights = vae.log_weights(x, KEY, 3)
        expected = by_hand(vae, x)
    assert loss.dtype == elbo.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(elbo.double(), -expected, rtol=1e-5, atol=1e-4)


def test_gaussian_of_an_output_in_bfloat16():
    x, f = torch.ones(1, 64), torch.zeros(1, 64)
    torch.testing.assert_close(Gaussian(0.1).log_prob(x, f.bfloat16()), Gaussian(0.1).log_prob(x, f))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_are_in_the_dtype_of_the_weights(name):
    assert model(LIKELIHOODS[name]()).bfloat16().sample(3, noise=True).dtype == torch.bfloat16


def test_data_in_float64():
    vae, x = model(), data()
    wide = x.double()
    for found, expected in (
        (vae.encode(wide)[0], vae.encode(x)[0]),
        (vae.elbo(wide, KEY), vae.elbo(x, KEY)),
        (vae.log_weights(wide, KEY, 2), vae.log_weights(x, KEY, 2)),
        (vae.log_likelihood(wide, k=4).nats, vae.log_likelihood(x, k=4).nats),
        (vae.reconstruct(wide), vae.reconstruct(x)),
        (vae.interpolate(wide[0], wide[1]), vae.interpolate(x[0], x[1])),
        (vae.traverse(wide[0], 1), vae.traverse(x[0], 1)),
        (vae.decode(wide[:, :4]), vae.decode(x[:, :4])),
        (vae.loss({"x": wide}, KEY), vae.loss({"x": x}, KEY)),
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", [2.0, (0, 3), (2.0,), (True,), ()])
def test_shape_is_checked(shape):
    with pytest.raises(ValueError, match="shape must be a positive integer or a sequence of them; got"):
        model(shape=shape)


def test_data_on_another_device():
    """The meta device stands for a GPU: it refuses to be mixed with the CPU as well."""
    vae, x = model().to("meta"), data()
    for found in (*vae.encode(x), vae.reconstruct(x), vae.decode(x[:, :4]), vae.interpolate(x[0], x[1])):
        assert found.device.type == "meta"
