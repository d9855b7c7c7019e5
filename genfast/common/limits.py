"""Limits on what a file from elsewhere may ask for, in time and memory."""

from torch.overrides import TorchFunctionMode

from .checks import is_integer


class Calls(TorchFunctionMode):
    """Inside it torch is called at most so many times; then ValueError. A network of depth 10^9 takes no memory on the
    meta device, but hours."""

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        if self.left < 0:
            raise ValueError("it asks for many more layers than there are tensors")
        return function(*args, **(kwargs or {}))


def largest_integer(value: object) -> int:
    """The largest in what JSON holds; 0 where there is none."""
    if isinstance(value, dict | list):
        return max(map(largest_integer, value.values() if isinstance(value, dict) else value), default=0)
    return value if is_integer(value) else 0
