"""The rules of the layout as code: what lies where, who may include or import whom, which files go together."""

import re
from pathlib import Path

import pytest
import rooms
from rooms import PACKAGE, ROOT, tracked

CSRC = ROOT / "csrc"

TOP_LEVEL = {
    "setup.py", "pyproject.toml", "README.md", "csrc", "genfast", "tests", "benches", "Makefile", "LICENSE",
    ".ci", ".clang-format", ".github", ".gitignore",
}  # fmt: skip

# Who may import whom inside genfast, from the bottom up: a room imports only what stands in its line, and that has a
# line above it. A room is a package, nested ones too, or a module at the top; a new one is one line here.
PERMISSIONS = {
    "_version": "",
    "_extension": "",
    "_info": "_extension _version",
    "common": "_version",
    "ops": "_extension common",
    "nn": "common ops",
    "checkpoint": "common nn",
    "data": "common ops",
    "metrics": "common ops",
    "diffusion.process": "common ops",
    "diffusion.solvers": "common diffusion.process",
    "diffusion.guidance": "common diffusion.process ops",
    "diffusion.sampling": "common diffusion.guidance diffusion.process diffusion.solvers ops",
    "diffusion": ("checkpoint common diffusion.guidance diffusion.process diffusion.sampling diffusion.solvers ops"),
    "vae": "checkpoint common data metrics nn ops",
    "gan": "checkpoint common ops",
    "gaussian": "checkpoint common data diffusion.process ops",
    "latent_diffusion": "checkpoint common diffusion vae",
    "classifier": "common data",
    "training": "checkpoint common data ops",
    "features": "common data nn ops training",
    "evaluation": "checkpoint common data features metrics ops",
    "verification": ("_extension common diffusion diffusion.process diffusion.sampling diffusion.solvers gaussian ops"),
    "studies": "checkpoint common evaluation",
    "integrations": "",
    "integrations.diffusers": "common diffusion.process diffusion.sampling diffusion.solvers nn ops",
    "testing": "common ops",
    "cli": "common data evaluation features studies verification",
    "__main__": "cli",
}
MOST_ROOMS, MOST_ARROWS = 30, 95

# Modules whose tests lie in another file than tests/<package>/test_<module>.py, by that file.
COVERED = {
    "cli/test_main.py": "cli.errors cli.evaluate cli.info cli.memory cli.plot cli.sampler cli.study cli.verify",
    "cli/test_sample.py": "cli.drawing cli.sample_files",
    "data/test_dataset.py": "common.orders common.warn data.builtin data.columns",
    "data/test_emoji.py": "data.font",
    "diffusion/sampling/test_sample.py": "common.indices",
    "diffusion/sampling/test_graph.py": (
        "common.cuda_graphs diffusion.sampling.captured diffusion.sampling.fingerprint diffusion.sampling.indexed"
    ),
    "diffusion/sampling/test_queue.py": "diffusion.sampling.lanes",
    "diffusion/sampling/test_trajectory.py": (
        "diffusion.sampling.prepared diffusion.sampling.rows diffusion.sampling.step diffusion.sampling.step_table"
    ),
    "diffusion/solvers/test_solvers.py": (
        "diffusion.solvers.ancestral diffusion.solvers.consistency diffusion.solvers.multistep "
        "diffusion.solvers.repaint diffusion.solvers.runge_kutta diffusion.solvers.sde diffusion.solvers.singlestep"
    ),
    "diffusion/test_likelihood.py": "common.log_likelihood",
    "diffusion/test_model.py": "diffusion.planned diffusion.queue",
    "evaluation/test_evaluate.py": "evaluation.inputs evaluation.labels evaluation.measure",
    "evaluation/test_report.py": "evaluation.pictures evaluation.records evaluation.table",
    "features/test_base.py": "features.choice features.module features.pixels",
    "features/test_inception.py": "features.inception_v3",
    "gaussian/test_gaussian.py": "gaussian.estimate gaussian.model",
    "gaussian/test_ppca.py": "gaussian.missing",
    "integrations/diffusers/test_plans.py": "integrations.diffusers.tables",
    "integrations/diffusers/test_scheduler.py": "integrations.diffusers.run",
    "metrics/test_estimate.py": "metrics.checks",
    "metrics/test_likelihood.py": "metrics.importance",
    "nn/test_dit.py": "nn.attention nn.timesteps",
    "nn/test_mlp.py": "nn.conditioning nn.layers",
    "nn/test_unet.py": "nn.resample nn.residual",
    "ops/test_noise.py": "common.keys",
    "ops/test_ops.py": (
        "ops.activations ops.denoising_loss ops.diffuse ops.dispatch ops.dot "
        "testing.case testing.latents testing.networks testing.pairs testing.sampling testing.training"
    ),
    "test_checkpoint.py": "common.files common.versions",
    "test_checkpoint_foreign.py": "common.limits",
    "test_latent_diffusion.py": "vae.autoencoder",
    "training/test_ema.py": "training.snapshots",
    "training/test_loop.py": "training.looks training.modes training.settings",
    "training/test_resume.py": "training.state",
    "training/test_step.py": "training.optimizers",
    "vae/test_model.py": "vae.active vae.answers vae.latents",
    "verification/test_verification.py": (
        "verification.invariance verification.laws verification.likelihood verification.orders verification.problems "
        "verification.report"
    ),
}


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text(), re.M)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


CPP = [path for path in tracked(CSRC) if path.suffix in (".h", ".cpp", ".cu", ".cuh")]
PYTHON = tracked(PACKAGE, ".py")
every_cpp = pytest.mark.parametrize("path", CPP, ids=name)


def test_there_is_something_to_check():
    assert len(CPP) > 20 and len(PYTHON) > 20


def test_top_level():
    extra = {path.relative_to(ROOT).parts[0] for path in tracked()} - TOP_LEVEL
    assert not extra, f"the top level is fixed: {sorted(extra)}"


@every_cpp
def test_includes_point_down(path):
    """bind -> kernels -> math -> the standard library; torch and Python in bind only, CUDA in .cu and .cuh only. The
    emulation stands alone, and only what launches kernels includes it."""
    layer = path.parent.name
    assert layer in ("math", "kernels", "bind", "emulation")
    for include in includes(path):
        if layer != "bind":
            assert not re.match(r"(torch|ATen|c10|pybind11)/|Python\.h", include), f"{include} outside bind"
            assert "bind/" not in include, "nothing includes bind"
        assert "tests/" not in include, "the library does without its tests"
        assert "emulation/" not in include or path.name == "launch.cuh", f"{include} is for launch.cuh"
        if layer == "emulation":
            assert "../" not in include, f"the emulation includes {include}"
        if layer == "math":
            assert "kernels/" not in include and "../" not in include, f"math includes {include}"
        if path.suffix not in (".cu", ".cuh"):
            assert not re.match(r"cuda|cub/|cutlass/", include) and not include.endswith(".cuh"), include


def test_the_stable_abi_only():
    """Headers outside torch's stable ABI would tie a build to one torch."""
    for path in CPP:
        for include in includes(path):
            if include.startswith(("torch/", "ATen/", "c10/")):
                assert include.startswith(("torch/csrc/stable/", "torch/headeronly/")), f"{name(path)}: {include}"


def test_twins():
    """An op has the same stem in every layer."""
    ops = {path.name.removesuffix("_cpu.cpp") for path in tracked(CSRC / "kernels", "_cpu.cpp")}
    assert ops
    assert ops == {path.name.removesuffix("_cuda.cu") for path in tracked(CSRC / "kernels", "_cuda.cu")}
    assert ops == {path.stem for path in tracked(CSRC / "bind", ".cpp")} - {"module", "raw"}
    assert ops == {path.stem for path in tracked(PACKAGE / "ops", ".py")} - {"__init__", "activations", "dispatch"}
    for op in ops:
        for file in (f"{op}.h", f"{op}_body.h"):
            assert (CSRC / "kernels" / file).exists(), file


def test_imports_point_down():
    """Every import is permitted, every permission is used, and what is permitted lies below."""
    order = list(PERMISSIONS)
    allowed = {(room, other) for room, others in PERMISSIONS.items() for other in others.split()}
    found = rooms.arrows()
    for (room, other), modules in found.items():
        assert (room, other) in allowed, f"{', '.join(modules)}: {room} may not import {other}"
    assert not allowed - set(found), f"permissions that nothing uses: {sorted(allowed - set(found))}"
    assert set(order) == rooms.rooms(), "every room has its line, and every line its room"
    known = rooms.modules()
    through = {rooms.room_of(name, path) for name, path in known.items() if "" in rooms.imports(name, path, known)}
    assert through - {""} <= {"studies", "cli"}, "only studies and the command, which do what users write, may"
    upward = [(room, other) for room, other in allowed if order.index(other) > order.index(room)]
    assert not upward and not rooms.circle(allowed)


def test_rooms_are_few():
    assert len(rooms.rooms()) <= MOST_ROOMS and len(rooms.arrows()) <= MOST_ARROWS


def test_families_are_strangers():
    for room in ("diffusion", "vae", "gan"):
        others = {"diffusion", "vae", "gan"} - {room}
        assert not others & {name.partition(".")[0] for name in PERMISSIONS[room].split()}


def test_imports_are_seen(tmp_path):
    """The reader of imports sees every form of them, and a circle is a circle."""
    file = tmp_path / "model.py"
    file.write_text(
        "import genfast\nimport genfast.nn.unet as unet\nfrom . import losses\nfrom .. import ops\n"
        "def f():\n    from ..data.files import load\n    from genfast import vae\n"
    )
    known = dict.fromkeys(["", "gan", "gan.losses", "ops", "nn", "nn.unet", "data", "data.files", "vae"], file)
    found = set(rooms.imports("gan.model", file, known))
    assert found == {"", "nn.unet", "gan.losses", "ops", "data.files", "vae"}
    assert rooms.circle({("a", "b"), ("b", "c"), ("c", "b")}) == ["b", "c", "b"]
    assert rooms.circle({("a", "b"), ("b", "c"), ("a", "c")}) == []


@pytest.mark.parametrize("path", [*CPP, *PYTHON, *tracked(ROOT / "benches", ".py")], ids=name)
def test_files_are_short(path):
    """One idea a file."""
    lines = path.read_text().count("\n")
    assert lines <= (120 if path.parent == CSRC / "math" else 400), f"{lines} lines"


def test_no_path_of_one_machine():
    home = re.compile(rb"/(?:home|root|Users|work)/\w|(?<![\w.])/tmp/\w")
    for path in tracked():
        if path == Path(__file__) or path.suffix in (".png", ".npz", ".safetensors"):
            continue
        found = home.search(path.read_bytes())
        assert not found, f"{name(path)}: {found[0].decode()}"


def test_tests_mirror_modules():
    """A module's tests lie where it lies: genfast/a/b.py, tests/a/test_b.py."""
    tests = {path.relative_to(ROOT / "tests") for path in tracked(ROOT / "tests", ".py")}
    modules = [name for name, path in rooms.modules().items() if path.name != "__init__.py"]
    untested = set()
    for module in modules:
        *folders, stem = module.split(".")
        if not stem.startswith("_") and Path(*folders, f"test_{stem}.py") not in tests:
            untested.add(module)
    covered = {module for modules in COVERED.values() for module in modules.split()}
    assert untested == covered, (
        f"no test file, nor a line in COVERED: {untested - covered}; in COVERED, but has one: {covered - untested}"
    )
    missing = {path for path in COVERED if Path(path) not in tests}
    assert not missing, f"no such file: {missing}"


def test_imports_inside_the_package_are_relative():
    for path in tracked(PACKAGE, ".py"):
        absolute = re.findall(r"^\s*(from genfast[. ].*|import genfast(?! as gf$).*)", path.read_text(), re.M)
        assert not absolute, f"{name(path)}: {absolute}"
