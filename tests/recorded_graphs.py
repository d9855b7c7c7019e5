"""CUDA graphs without a GPU: what a step does is recorded, op by op with its very tensors, and done again.

As in a CUDA graph: addresses and Python's numbers are those of the recording; Python itself does not run again; and the
host may not look at a value.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genfast.common import cuda_graphs
from genfast.testing import no_host_reads


class Recorder(TorchDispatchMode):
    """Lists the calls inside it that are no views: (op, arguments, what it answered with), and what they write over."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        schema, kwargs, writes = function._schema, kwargs or {}, False
        for place, argument in enumerate(schema.arguments):
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write and value is not None:
                self.before += [(tensor, tensor.clone()) for tensor in tree_leaves(value)]
                writes = True
        out = function(*args, **kwargs)
        # By where it lies, for in inference mode torch does not say more of `to` than that it may be a view.
        if writes or not memory(out) <= memory((args, kwargs)):
            self.calls.append((function, args, kwargs, out))
        return out

    @torch.no_grad()
    def undo(self):
        """To capture a step is not to take it."""
        for tensor, value in reversed(self.before):
            tensor.copy_(value)


def memory(tree):
    """Where the tensors in it lie."""
    tensors = [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]
    return {t.untyped_storage().data_ptr() if t.layout == torch.strided else id(t) for t in tensors}


def again(calls):
    """Every call once more, what it answers with written to where the first answer lies."""
    for function, args, kwargs, out in calls:
        new = function(*args, **kwargs)
        for to, value in zip(*(answer if isinstance(answer, tuple | list) else [answer] for answer in (out, new))):
            if isinstance(to, torch.Tensor) and to.data_ptr() != value.data_ptr():
                to.copy_(value)


class RecordedGraphs:
    """In the place of `cuda_graphs.CudaGraphs`. captures, replays: how many there were."""

    def __init__(self):
        self.captures = self.replays = 0

    def serves(self, device):
        return device.type == "cpu"

    def aside(self, device):
        return contextlib.nullcontext()

    def mark(self, device):
        return "here"

    def wait(self, mark, device):
        assert mark == "here"

    def capture(self, function, device):
        self.captures += 1
        recorder = Recorder()
        try:
            with no_host_reads(), recorder:
                function()
        finally:
            recorder.undo()

        def replay():
            self.replays += 1
            with torch.no_grad():
                again(recorder.calls)

        return replay


@pytest.fixture
def graphs(monkeypatch):
    """On the CPU steps are captured, as far as they would be on a GPU."""
    recorded = RecordedGraphs()
    monkeypatch.setattr(cuda_graphs, "graphs", recorded)
    return recorded
