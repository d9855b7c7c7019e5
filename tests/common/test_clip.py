import math

import pytest
import torch

from genfast.common.clip import as_clip, clipped


def test_bounds():
    assert as_clip("auto", 17) == (-1.0, 1.0) and as_clip("auto", None) is None
    assert (
        as_clip(None, 17) is None and as_clip((0, 2), None) == (0.0, 2.0) and as_clip((0, math.inf), 17)[1] == math.inf
    )


@pytest.mark.parametrize("clip", ["none", True, 1.0, (1, 0), (0, math.nan), (0, 1, 2)])
def test_bad_bounds(clip):
    with pytest.raises(ValueError, match="clip must be"):
        as_clip(clip, 17)


def test_clipped():
    x = torch.tensor([-2.0, 0.5, 3.0])
    assert clipped(x, None) is x
    assert clipped(x, (-1.0, 1.0)).tolist() == [-1.0, 0.5, 1.0] and x[0] == -2
