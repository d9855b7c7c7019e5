"""Shared by all tests: the device that the ops run on, and few threads."""

import os

# Before torch: a thread that waits sleeps. With the cores in use elsewhere, spinning ones cost minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def cuda():
    """Skips without a GPU; GENFAST_REQUIRE_CUDA=1 makes that a failure, so that a GPU job cannot pass by skipping."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("GENFAST_REQUIRE_CUDA") == "1":
        pytest.fail("GENFAST_REQUIRE_CUDA=1, but torch sees no GPU")
    pytest.skip("needs a GPU")
