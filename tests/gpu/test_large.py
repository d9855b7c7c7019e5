"""Ops on more elements than 32 bits count: the same bits from run to run, and for a row in any batch."""

import pytest
import torch
from cases import channels_last, make

from genfast import ops
from genfast.testing import CASES, to

FEATURES = {"cpu": [(67,), (4, 8, 8)], "cuda": [(1_000_003,), (16, 256, 256)]}
ELEMENTS = {"cpu": 4_000, "cuda": 3_200_000_000}  # or as many as there is memory for


def batch_of(device, features, held):
    """How many samples of these features fit, if an element takes so many bytes."""
    free = 0.8 * torch.cuda.mem_get_info()[0] if device.type == "cuda" else torch.inf
    return int(min(ELEMENTS[device.type], free / held)) // torch.Size(features).numel()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rows_of_a_small_batch_repeated(case, device):
    """Billions of elements, of which all must be what the small batch gives."""
    for features in FEATURES[device.type] if case.layouts != "contiguous" else FEATURES[device.type][:1]:
        pictures = len(features) == 3
        lay = channels_last if pictures else torch.Tensor.contiguous
        few = to(make(case, (3, *features), case.dtypes[:2][-1]), lambda t: t.to(device))
        once = to(to(few, torch.clone), lay)
        expected = case.op(**once)
        held = {t.data_ptr(): t.nbytes for t in (*expected, *filter(torch.is_tensor, once.values()))}
        held = sum(held.values()) / (3 * torch.Size(features).numel()) * (1 + pictures)  # in both layouts for a while
        rows = torch.arange(batch_of(device, features, held), device=device) % 3
        found = case.op(**to(case.rows(few, rows), lay))
        for k, both in enumerate(zip(found, expected, strict=True)):
            many, each = (t.movedim(int(k == 2), 0).nan_to_num_(7) for t in both)  # history is third
            for row in range(3):
                parts = many[row::3].split(64)
                assert all(torch.equal(part, each[row].expand_as(part)) for part in parts), (features, k, row)
        del found, both, many, parts


@pytest.mark.parametrize("draw", [ops.normal, ops.uniform])
def test_noise_of_one_sample_beyond_two_billion(draw, device):
    size = 2**31 + 11 if device.type == "cuda" else 1003
    key = ops.make_key(7, 1)
    assert torch.equal(draw(key.to(device), (size,), 1, 3).cpu(), draw(key, (size,), 1, 3))


def test_four_billion_normals(device):
    """Of so many words nearly two thirds of all 2^32."""
    samples, size = (64, 2**21) if device.type == "cuda" else (2, 2**10)
    for part in range(32):
        key = ops.make_key(12345, torch.arange(part * samples, (part + 1) * samples))
        found, expected = (ops.normal(k, (size,), ops.Purpose.STEP, 3).cpu() for k in (key.to(device), key))
        assert torch.equal(found, expected), part
