"""The ends of rows, which fill no register: every number of elements, in every dtype, on every instruction set."""

import pytest
import torch
from cases import ISAS, equal, make, run

from genfast._extension import extension
from genfast.testing import CASES

if extension.build_info()["emulated"]:
    pytest.skip("of CPU kernels", allow_module_level=True)

ROWS = [(3, n) for n in range(1, 66)]
AROUND = 40  # elements, more than a register has


@pytest.mark.parametrize("isa", ISAS[1:])
@pytest.mark.parametrize("name", ["step_everything", "dot", "bias_act_silu", "layer_norm_modulate"])
def test_have_the_bits_of_one_value_at_a_time(name, isa, restore):
    for dtype in CASES[name].dtypes:
        for shape in ROWS:
            args = make(CASES[name], shape, dtype)
            extension.set_isa("scalar")
            expected = run(CASES[name], args)
            extension.set_isa(isa)
            assert equal(run(CASES[name], args), expected), (dtype, shape)


@pytest.mark.parametrize("isa", ISAS)
def test_nothing_beyond_is_written(isa, restore):
    extension.set_isa(isa)
    case = CASES["step_everything"]
    for dtype in case.dtypes:
        for rows, n in ROWS:
            args = make(case, (rows, n), dtype)
            held = {}
            for name in ("x", "y"):
                held[name] = torch.full((rows * n + 2 * AROUND,), -7.0, dtype=args[name].dtype)
                inside = held[name][AROUND:-AROUND].view(rows, n)
                args[name] = inside.copy_(args[name])
            case.op(**args)
            for name, whole in held.items():
                assert (whole[:AROUND] == -7).all() and (whole[-AROUND:] == -7).all(), (dtype, n, name)
