"""What is asked of torch.cuda to capture a step, all of it: a test puts another in its place."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch


class CudaGraphs:
    """Captures and replays on CUDA devices, one step of the process at a time, on one stream of its own a device: a
    process may have but one capture under way, and what cuBLAS keeps for every stream should not be kept for many."""

    def __init__(self):
        self.lock, self.streams = threading.RLock(), {}

    def serves(self, device: torch.device) -> bool:
        """Whether a step can be captured there."""
        return device.type == "cuda"

    @contextlib.contextmanager
    def aside(self, device: torch.device) -> Iterator[None]:
        """On a stream of its own: what is made at a first call may not be captured."""
        with self.lock:
            stream, current = self._stream(device), torch.cuda.current_stream(device)
            stream.wait_stream(current)
            try:
                with torch.cuda.stream(stream):
                    yield
            finally:
                current.wait_stream(stream)

    def mark(self, device: torch.device) -> torch.cuda.Event:
        """When all that was launched so far will be done."""
        return torch.cuda.current_stream(device).record_event()

    def wait(self, mark: torch.cuda.Event, device: torch.device) -> None:
        """What is launched from now on, on whatever stream, comes after it."""
        torch.cuda.current_stream(device).wait_event(mark)

    def capture(self, function: Callable[[], None], device: torch.device) -> Callable[[], None]:
        """The launches of `function`, which is called but not run, as a function that replays them."""
        kind, inference = device.type, torch.is_inference_mode_enabled()
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # What autocast makes of weights would be kept for others, in memory that belongs to the graph.
        uncached = torch.autocast(kind, dtype, enabled, cache_enabled=False)
        with self.lock, uncached, torch.cuda.device(device):
            graph, stream = torch.cuda.CUDAGraph(), self._stream(device)
            capturing = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
            # torch does not leave the stream of a capture that fails; and what it makes for the random numbers of all
            # graphs, made in inference mode, could not be written to outside.
            outside, inside = torch.inference_mode(False), torch.inference_mode(inference)
            with torch.cuda.stream(stream), outside, capturing, inside, torch.no_grad():
                function()
        return graph.replay

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)
        return self.streams[device]


graphs = CudaGraphs()
