"""The kit for a GPU: every test here is a function of the device, small on the CPU, hard on CUDA."""

import os

import pytest
import torch


@pytest.fixture(params=["cpu", "cuda"])
def device(request, restore):
    """The CPU too, where a test is small, so that all of it is known to run before a GPU is at hand."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    cuda = request.getfixturevalue("cuda")
    torch.set_num_threads(os.cpu_count())  # the answers that its are compared with are large
    yield cuda
    torch.cuda.empty_cache()
