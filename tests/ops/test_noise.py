"""The noise streams: known answers of Philox, the law of the normals, independence of the streams, bad input."""

import math

import pytest
import torch
from scipy import stats

from genfast import ops
from genfast._extension import extension
from genfast.ops import Purpose, make_key, normal, uniform


@pytest.mark.parametrize(
    "seed, counter, words",
    [
        (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**64 - 1, (2**32 - 1,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            0x299F31D0A4093822,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_random123_known_answers(seed, counter, words):
    """kat_vectors of Random123 (Salmon et al. 2011), philox4x32 with 10 rounds."""
    assert extension.philox(seed, *counter) == words


def test_counter_layout():
    """c0 = element >> 2, c1 = step << 8 | purpose, (c2, c3) = sample; element e takes word e & 3."""
    seed, sample, step, purpose = 2**40 + 17, 2**33 + 5, 77, Purpose.CHURN
    u = uniform(make_key(seed, torch.tensor([sample])), (11,), purpose, step)[0]
    for element in range(11):
        words = extension.philox(seed, element >> 2, step << 8 | purpose, sample & 0xFFFFFFFF, sample >> 32)
        assert u[element].item() == (words[element & 3] >> 8) * 2.0**-24


def test_against_textbook_box_muller():
    key = make_key(3, torch.tensor([0, 1, 2**40]))
    z, reference = normal(key, (4097,)), ops.noise_reference(key, (4097,), Purpose.STEP)
    assert (z - reference).abs().max() < 7e-7


@pytest.fixture(scope="module")
def many():
    return normal(make_key(2024, 10), (1_000_000,)).flatten()


def test_moments(many):
    """Of 1e7 normals, each within 5 standard errors."""
    z, n = many.double(), many.numel()
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - expected) < 5 * math.sqrt(variance / n), power


def test_kolmogorov_smirnov(many):
    assert stats.kstest(many[:2_000_000].double().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform(make_key(5, 2), (500_000,)).flatten().double().numpy(), "uniform").pvalue > 1e-3


def test_tail(many):
    """As many beyond 3, 4 and 5 as a normal has, to 5 standard errors; none beyond what 32 bits can give."""
    for bound in (3, 4, 5):
        expected = many.numel() * math.erfc(bound / math.sqrt(2))
        assert abs(int((many.abs() > bound).sum()) - expected) < 5 * math.sqrt(expected), bound
    assert many.abs().max() < 6.77


def test_streams_are_independent():
    """Neighboring seeds, samples, steps, purposes and elements do not correlate, and do not repeat."""
    n = 200_000
    base = normal(make_key(7, torch.tensor([5])), (n,), Purpose.STEP, 3)[0]
    others = [
        normal(make_key(8, torch.tensor([5])), (n,), Purpose.STEP, 3)[0],
        normal(make_key(7, torch.tensor([6])), (n,), Purpose.STEP, 3)[0],
        normal(make_key(7, torch.tensor([5 + 2**32])), (n,), Purpose.STEP, 3)[0],
        normal(make_key(7, torch.tensor([5])), (n,), Purpose.STEP, 4)[0],
        normal(make_key(7, torch.tensor([5])), (n,), Purpose.CHURN, 3)[0],
        base.roll(1), base.roll(2), base.roll(3), base.square().roll(1),
    ]  # fmt: skip
    for other in others:
        correlation = torch.corrcoef(torch.stack([base, other]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(n)
    pairs = base.reshape(-1, 4)
    assert abs((pairs[:, 0].square() * pairs[:, 1].square()).mean() - 1) < 0.05


def test_a_prefix_does_not_depend_on_the_size():
    key = make_key(1, 3)
    assert torch.equal(normal(key, (1000,))[:, :37], normal(key, (37,)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_the_float32_number(dtype):
    key = make_key(1, 3)
    assert torch.equal(normal(key, (100,), dtype=dtype), normal(key, (100,)).to(dtype))
    assert torch.equal(uniform(key, (100,), dtype=dtype), uniform(key, (100,)).to(dtype))


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_extreme_seeds_and_indices(seed):
    z = normal(make_key(seed, torch.tensor([0, 2**63 - 1])), (1000,))
    assert z.isfinite().all() and abs(z.std() - 1) < 0.1 and not torch.equal(z[0], z[1])


def test_shapes():
    assert normal(make_key(0, 0), (3, 4)).shape == (0, 3, 4)
    assert normal(make_key(0, 2), ()).shape == (2,)
    assert normal(make_key(0, 2), (0, 5)).shape == (2, 0, 5)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: make_key(-1, 3), ValueError, r"seed must be an integer from 0 to 2\^63 - 1"),
        (lambda: make_key(2**63, 3), ValueError, r"seed must be an integer from 0 to 2\^63 - 1"),
        (lambda: make_key(1.5, 3), ValueError, "seed must be an integer .*; got 1.5"),
        (lambda: make_key(0, -3), ValueError, "index must be an integer of at least 0; got -3"),
        (lambda: make_key(0, torch.tensor([1, -3])), ValueError, "index must not be negative"),
        (lambda: make_key(0, torch.tensor([0.5])), ValueError, "index must be one-dimensional integers"),
        (lambda: normal(make_key(0, 2), (3,), step=-1), ValueError, r"step must be an integer from 0 to 2\^24 - 1"),
        (lambda: normal(make_key(0, 2), (3,), step=2**24), ValueError, r"step must be an integer from 0 to 2\^24 - 1"),
        (
            lambda: normal(make_key(0, 2), (3,), purpose=256),
            ValueError,
            "purpose must be an integer from 0 to 255",
        ),
        (lambda: normal(make_key(0, 2), (-3,)), RuntimeError, "shape must not be negative"),
        (lambda: normal(make_key(0, 2), (3,), dtype=torch.int32), RuntimeError, "dtype must be float32"),
        (lambda: normal(make_key(0, 2).int(), (3,)), RuntimeError, "key must be int64; got int32"),
        (lambda: normal(make_key(0, 2)[:, :1], (3,)), RuntimeError, r"key must have shape \(2, 2\)"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "rows, features",
    [
        pytest.param(65_537, 256, id="more rows than a grid has along y"),
        pytest.param(70_001, 4, id="short ones, several a block"),
        pytest.param(3_100, 4_100, id="more tiles than blocks, and a last one that is not full"),
    ],
)
def test_the_cuda_twin_of_many_rows(rows, features, restore, request):
    emulated = extension.build_info()["emulated"]
    key = make_key(11, rows)
    found = normal(key if emulated else key.to(request.getfixturevalue("cuda")), (features,)).cpu()
    if emulated:
        extension.set_emulating(False)
    assert torch.equal(found, normal(key, (features,)))
