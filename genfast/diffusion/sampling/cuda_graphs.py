"""What is asked of torch.cuda to capture a step, all of it: a test puts another in its place."""

import contextlib
from collections.abc import Callable, Iterator

import torch


class CudaGraphs:
    """Captures and replays on CUDA devices."""

    def serves(self, device: torch.device) -> bool:
        """Whether a step can be captured there."""
        return device.type == "cuda"

    @contextlib.contextmanager
    def aside(self, device: torch.device) -> Iterator[None]:
        """On a stream of its own: what is made at a first call may not be captured."""
        stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)

    def mark(self, device: torch.device) -> torch.cuda.Event:
        """When all that was launched so far will be done."""
        return torch.cuda.current_stream(device).record_event()

    def wait(self, mark: torch.cuda.Event, device: torch.device) -> None:
        """What is launched from now on, on whatever stream, comes after it."""
        torch.cuda.current_stream(device).wait_event(mark)

    def capture(self, function: Callable[[], None], device: torch.device) -> Callable[[], None]:
        """The launches of `function`, which is called but not run, as a function that replays them."""
        graph, kind = torch.cuda.CUDAGraph(), device.type
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # What autocast makes of weights would be kept for others, in memory that belongs to the graph.
        uncached = torch.autocast(kind, dtype, enabled, cache_enabled=False)
        with uncached, torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            function()
        return graph.replay


graphs = CudaGraphs()
