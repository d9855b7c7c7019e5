"""Shared by all tests: the device that the ops run on, and few threads."""

import contextlib
import os

# Before torch: a thread that waits sleeps. With the cores in use elsewhere, spinning ones cost minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

torch.set_num_threads(2)


def pytest_collection_modifyitems(items):
    for item in items:
        if "cuda" in item.fixturenames:
            item.add_marker("gpu")
    # Files with slow tests come first, so that processes that share the files end together.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def cuda():
    """Skips without a GPU; GENFAST_REQUIRE_CUDA=1 makes that a failure, so that a GPU job cannot pass by skipping."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("GENFAST_REQUIRE_CUDA") == "1":
        pytest.fail("GENFAST_REQUIRE_CUDA=1, but torch sees no GPU")
    pytest.skip("needs a GPU")


@pytest.fixture
def one_thread():
    """For small tensors: a second thread only waits, which takes many times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def restore():
    """After it the widest instruction set and two threads are in use, and an emulated build emulates a small GPU."""
    yield
    from genfast._extension import extension

    extension.set_isa(extension.best_isa())
    torch.set_num_threads(2)
    if extension.build_info()["emulated"]:
        extension.set_emulating(True)
        extension.set_shared_memory(48 << 10)


@pytest.fixture(params=[torch.float64, torch.bfloat16], ids=str)
def default_dtype(request):
    """A context in which torch's default dtype is another one."""

    @contextlib.contextmanager
    def context():
        torch.set_default_dtype(request.param)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)

    return context
