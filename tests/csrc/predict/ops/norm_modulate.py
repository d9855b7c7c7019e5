"""layer_norm_modulate and gate_residual_norm_modulate: tokens of DiTs, scale, shift and gate for each sample."""

from ..model import ANY, Launch
from ..shapes import TYPES
from ..table import Row

STEM = "norm_modulate_cuda"
MEASURED = {("bf16", 65_536, 1152): 233, ("f32", 65_536, 1152): 411}
MEASURED |= {("bf16", 65_536, 3072): 429, ("f32", 65_536, 3072): 632, ("bf16", 4096, 3072): 66}
LDS, STG, LDGSTS = (ANY + op for op in (r"LDS\S*\.128", r"STG\S*\.128", "LDGSTS"))
UNIT = 32  # tokens of a team of the backward


def forward(dtype, batch, tokens, width, gate):
    name, size = TYPES[dtype]
    count, elements = width * size // 16, batch * tokens * width
    packs, warps = next(f for f in ((2, 1), (3, 1), (5, 1), (2, 4), (3, 4), (6, 4)) if f[0] * f[1] * 32 >= count)
    teams = 4 // warps
    rows = max(teams, min(batch * tokens // 4096, 8 * teams) // teams * teams)
    held, tables = packs * rows // teams, 2 + gate
    launch = Launch(
        128, batch * tokens // rows, elements, held * 16 // size, size * (1 + gate), size * (1 + gate),
        shared=4 * tables * width, before=-(-width // 512) * tables, marks={LDS: held * 4 // size * tables},
    )  # fmt: skip
    return f"rows_kernel<{name}, {packs}, {warps}, {'true' if gate else 'false'}>", launch, 2 * (1 + gate) * size


def teams(dtype, width, gate):
    """Of a block of the backward."""
    return 2 if not gate and width * TYPES[dtype][1] <= 256 * 16 else 1


def backward(dtype, batch, tokens, width, gate):
    name, size = TYPES[dtype]
    count, elements = width * size // 16, batch * tokens * width
    packs = 1 if count <= 256 else 2 if count <= 512 else 3
    team, stages = -(-count // (32 * packs)) * 32, 2 if gate else 4 if packs == 1 else 3
    of_block = teams(dtype, width, gate)
    threads, unit = of_block * team, of_block * UNIT
    inputs, outputs, sums = (4, 2, 3) if gate else (2, 1, 2)
    launch = Launch(
        threads, batch * tokens // unit, elements, packs * UNIT * 16 // size, store="none",
        narrow=(inputs + outputs) * size + 4 * sums / unit, shared=stages * inputs * packs * threads * 16,
        before=packs * (1 + gate) * 4 // size, marks={LDGSTS: inputs * packs * UNIT, STG: outputs * packs * UNIT},
    )  # fmt: skip
    kernel = f"rows_backward_kernel<{name}, {packs}, {'true' if gate else 'false'}, {of_block}>"
    return kernel, launch, (inputs + outputs) * size


def small(dtype, batch, tokens, width, gate, affine):
    """What adds up the units of a sample: the gradients, but where there are weight and bias, which take a launch."""
    units, columns = tokens // (teams(dtype, width, gate) * UNIT), batch * (3 if gate else 2) * width
    add = Launch(256, columns // 1024, columns * units, 4 * units, 4, narrow=4 / units, store="none")
    of_affine = Launch(512, -(-width // 32), 0, 0, marks={ANY + r"LDG\.E(\.CONSTANT)?$": 3 * batch // 16})
    kernels = (STEM, "flat_kernel<AddUnitsBody, 4", add), (STEM, "affine_gradients_kernel", of_affine)
    return kernels[: 1 + affine]


def rows():
    shapes = [(dtype, 64, 1024, width) for width in (1152, 3072) for dtype in TYPES] + [("bf16", 4, 1024, 3072)]
    for gate, op in enumerate(("layer_norm_modulate", "gate_residual_norm_modulate")):
        for dtype, batch, tokens, width in shapes:
            count, elements = batch * tokens, batch * tokens * width
            kernel, launch, moved = forward(dtype, batch, tokens, width, bool(gate))
            target = None if count < 65_536 else 86 if width == 1152 else 90
            measured = None if gate else MEASURED.get((dtype, count, width))
            kernels = ((STEM, kernel, launch),)
            yield Row(f"{op} {dtype} ({count}, {width})", moved * elements, kernels, target, measured)
            if count < 65_536:
                continue
            kernel, launch, moved = backward(dtype, batch, tokens, width, bool(gate))
            for affine, what in enumerate(("", ", weight and bias too")[: 2 - gate]):
                kernels = ((STEM, kernel, launch), *small(dtype, batch, tokens, width, gate, affine))
                name, target = f"{op} backward{what} {dtype} ({count}, {width})", None if affine else 80
                yield Row(name, moved * elements, kernels, target)
