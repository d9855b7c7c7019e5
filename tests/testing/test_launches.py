"""Launches: what the counter counts, and that no network takes more of them than it did."""

from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from genfast import ops, testing

BENCHES = Path(__file__).parents[2] / "benches"

# At most so many, by network, as of `benches/run.py launches` with torch 2.13 on a CPU. Lower them with the count.
BOUNDS = {
    "ddpm_cifar10": {"forward": 194, "channels-last": 192, "bfloat16": 194, "prepare": 29, "step": 897},
    "dit_s_2": {"forward": 106, "channels-last": 106, "bfloat16": 107, "prepare": 35, "step": 675},
    "demo": {"forward": 60, "channels-last": 59, "bfloat16": 60, "prepare": 18, "step": 442},
}
# The same on a GPU, as "meta" counts them: before biases, embeddings and residuals were added where an image is read or
# written anyway, a forward of DDPM-CIFAR took 291, in bfloat16 393, and one of the demo 93 and 129.
GPU_BOUNDS = {
    "ddpm_cifar10": {"forward": 247, "bfloat16": 247},
    "dit_s_2": {"forward": 106, "bfloat16": 107},
    "demo": {"forward": 68, "bfloat16": 68},
}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    return pytest.importorskip("bench_launches")


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in BOUNDS.items() for mode in modes])
def test_networks_launch_no_more_than_they_did(bench, name, mode, one_thread):
    found = bench.count(name, mode)
    assert found.total() <= BOUNDS[name][mode], f"{found.total()}: {dict(found.most_common())}"


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in GPU_BOUNDS.items() for mode in modes])
def test_a_gpu_launches_no_more_than_it_did(bench, name, mode):
    found = bench.count(name, mode, "meta")
    assert found.total() <= GPU_BOUNDS[name][mode], f"{found.total()}: {dict(found.most_common())}"


def test_every_network_and_mode_has_a_bound(bench):
    assert list(BOUNDS) == bench.names()
    assert all(tuple(modes) == bench.MODES for modes in BOUNDS.values())


def test_views_and_memory_are_no_launches():
    x = torch.randn(2, 3, 4)
    counts = testing.count_launches(lambda: (
        x.view(6, 4).t().unsqueeze(0).expand(5, 4, 6)[1:].detach(), x.reshape(-1).split(4), x.select(1, 0).chunk(2, 1),
        x.permute(2, 0, 1).unbind(0), torch.empty(3), torch.empty_like(x), x.new_empty(2), x.sum().item(),
    ))  # fmt: skip
    assert counts == Counter({"sum": 1})


def test_what_fills_or_changes_a_tensor_is_one():
    x, y = torch.randn(2, 3), torch.zeros(2, 3)

    def function():
        y.copy_(x)
        y[0].fill_(1.0)
        torch.add(x, x, out=y)
        torch._foreach_mul_([x, y], 2.0)
        return x.t().contiguous(), x.double(), torch.cat([x, y]), torch.zeros(2), x.unbind(0)[0].clone()

    counts = testing.count_launches(function)
    assert counts == Counter(
        copy_=1, fill_=1, add=1, _foreach_mul_=1, clone=2, _to_copy=1, cat=1, zeros=1
    )  # fmt: skip


def test_a_small_network_forward_and_backward():
    """By hand: an op of ours is one, and so is its backward, with and without gradients."""
    x, weight, bias = torch.randn(3, 4), torch.randn(6, 4, requires_grad=True), torch.randn(6, requires_grad=True)

    def forward():
        return ops.bias_act(F.linear(x, weight), bias)

    with torch.no_grad():
        assert testing.count_launches(forward) == Counter(mm=1, bias_act=1)
    with torch.inference_mode():
        assert testing.count_launches(forward)["bias_act"] == 1
    both = testing.count_launches(lambda: forward().sum().backward())  # whose first gradient is one number, expanded
    assert both == Counter(mm=2, bias_act=1, sum=1, ones_like=1, clone=1, bias_act_backward=1)


def test_a_norm_of_ours(one_thread):
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    counts = testing.count_launches(lambda: ops.group_norm_act(x, 2).sum().backward())
    assert {name: number for name, number in counts.items() if "norm" in name} == {
        "group_norm_act": 1, "group_norm_act_backward": 1
    }  # fmt: skip


def test_on_meta_a_bias_of_a_convolution_and_an_attention_are_one_each():
    x, q = torch.empty(2, 4, 8, 8, device="meta"), torch.empty(2, 3, 16, 4, device="meta")
    layer, bare = (torch.nn.Conv2d(4, 4, 3, bias=bias, device="meta") for bias in (True, False))
    assert testing.count_launches(lambda: (layer(x), bare(x)), "meta").total() == 3
    counts = testing.count_launches(lambda: F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(2), "meta")
    assert counts == Counter(attention=1)


def test_errors_leave_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        testing.count_launches(lambda: 1 / 0)
    assert torch._C._len_torch_dispatch_stack() == 0


def test_kernels_on_a_gpu(cuda):
    x = torch.randn(1000, device=cuda)
    x + x  # loads the kernel
    counts = testing.count_launches(lambda: (x + x).view(10, 100).mul_(2), cuda)
    assert counts.total() == 2
