"""The rules of the layout as code: what lies where, who may include or import whom, which files go together."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CSRC, PACKAGE = ROOT / "csrc", ROOT / "genfast"

TOP_LEVEL = {
    "setup.py", "pyproject.toml", "README.md", "csrc", "genfast", "tests", "benches", "Makefile", "LICENSE",
    ".ci", ".clang-format", ".gitignore",
}  # fmt: skip

# Who may import whom inside genfast, from the bottom up.  All may import what is in ANYONE, which imports nothing of
# ours.  A new module is one line here.
ALLOWED = {
    "ops": set(),
    "schedules": {"ops"},
    "nn": {"ops"},
    "metrics": {"ops", "checkpoint", "data"},
    "features": {"ops", "nn", "data", "checkpoint", "training"},
    "data": {"ops", "images"},
    "spectral": set(),
    "gan_losses": set(),
    "gan_monitor": set(),
    "gan_augment": {"ops"},
    "gaussian": {"ops", "denoisers", "spectral", "sampling", "checkpoint", "data"},
    "grids": {"schedules"},
    "plans": {"schedules"},
    "tabulated": {"schedules"},
    "denoisers": {"ops", "schedules", "spectral"},
    "solvers": {"schedules", "grids", "plans"},
    "checkpoint": {"nn"},
    "images": {"checkpoint"},
    "info": set(),
    "testing": {"ops"},
    "brownian": {"schedules", "plans"},
    "guidance": {"ops", "schedules", "plans", "grids", "denoisers", "solvers"},
    "conditions": {"guidance"},
    "trajectory": {"ops", "schedules", "plans", "denoisers", "brownian", "guidance"},
    "batching": {"ops", "denoisers", "plans", "trajectory"},
    "sampling": {"ops", "schedules", "denoisers", "grids", "plans", "solvers", "guidance", "trajectory"},
    "likelihood": {"ops", "schedules", "denoisers", "grids", "plans", "sampling"},
    "elbo": {"ops", "denoisers", "sampling", "likelihood"},
    "guided": {"ops", "denoisers"},
    "inverse": {"ops", "denoisers", "guided"},
    "inversion": {"schedules", "plans", "denoisers", "solvers", "sampling"},
    "adaptive": {"ops", "denoisers", "sampling"},
    "training": {"ops", "data", "checkpoint"},
    "evaluation": {"ops", "data", "images", "checkpoint", "features", "metrics", "sampling"},
    "vae_likelihoods": {"ops"},
    "verify": {"ops", "schedules", "grids", "plans", "solvers", "denoisers", "sampling", "likelihood"},
}
FAMILY = set(ALLOWED) - {"training", "testing", "info", "verify"}
ALLOWED |= dict.fromkeys(("diffusion", "vae", "gan", "classifier"), FAMILY)
ALLOWED["latent_diffusion"] = FAMILY | {"vae", "diffusion"}
EVERYTHING = set(ALLOWED)
PROGRAMS = {"studies", "integrations", "cli"}  # they use the package from outside
ALLOWED |= dict.fromkeys(PROGRAMS, EVERYTHING | PROGRAMS | {"", "__init__"}) | {"__init__": EVERYTHING}
ANYONE = {"_extension", "_version", "float64", "modes"}


def tracked() -> list[Path]:
    """Files of the checkout: those that git knows and those that it would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def sources(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in suffixes)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text(), re.M)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


CPP = sources(CSRC, ".h", ".cpp", ".cu", ".cuh")
PYTHON = sources(PACKAGE, ".py")
every_cpp = pytest.mark.parametrize("path", CPP, ids=name)
every_python = pytest.mark.parametrize("path", PYTHON, ids=name)


def test_there_is_something_to_check():
    assert len(CPP) > 20 and len(PYTHON) > 20


def test_top_level():
    extra = {path.relative_to(ROOT).parts[0] for path in tracked()} - TOP_LEVEL
    assert not extra, f"the top level is fixed: {sorted(extra)}"


@every_cpp
def test_includes_point_down(path):
    """bind -> kernels -> math -> the standard library; torch and Python in bind only, CUDA in .cu and .cuh only."""
    layer = path.parent.name
    assert layer in ("math", "kernels", "bind")
    for include in includes(path):
        if layer != "bind":
            assert not re.match(r"(torch|ATen|c10|pybind11)/|Python\.h", include), f"{include} outside bind"
            assert "bind/" not in include, "nothing includes bind"
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
    ops = {p.name.removesuffix("_cpu.cpp") for p in CSRC.glob("kernels/*_cpu.cpp")}
    assert ops
    assert ops == {p.name.removesuffix("_cuda.cu") for p in CSRC.glob("kernels/*_cuda.cu")}
    assert ops == {p.stem for p in CSRC.glob("bind/*.cpp")} - {"module"}
    assert ops == {p.stem for p in PACKAGE.glob("ops/*.py")} - {"__init__", "activations", "dispatch"}
    for op in ops:
        for file in (f"{op}.h", f"{op}_body.h"):
            assert (CSRC / "kernels" / file).exists(), file


def imported(path: Path) -> set[str]:
    """First-level modules of genfast that a file imports, inside functions too; "" for the package itself."""
    package = ("genfast", *path.relative_to(PACKAGE).parts[:-1])
    found = set()

    def add(*parts: str):
        if parts[0] == "genfast":
            found.add(parts[1] if len(parts) > 1 else "")

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(*alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                add(*module, alias.name)
    return found


@every_python
def test_imports_point_down(path):
    owner = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert owner in ALLOWED.keys() | ANYONE, f"{owner} is not in the table of this test: say whom it may import"
    allowed = set() if owner in ANYONE else ALLOWED[owner] | ANYONE
    public = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PYTHON}
    for module in imported(path) - {owner}:
        if module in public or module == "":
            assert module in allowed, f"{owner} may not import {module or 'the package itself'}"


def test_imports_are_seen():
    """The reader of imports sees every form of them."""
    assert imported(PACKAGE / "ops" / "step.py") == {"ops"}
    assert {"ops", "schedules", "checkpoint"} <= imported(PACKAGE / "diffusion.py")


@pytest.mark.parametrize("path", [*CPP, *PYTHON, *sources(ROOT / "benches", ".py")], ids=name)
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
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    untested = {m for m in modules if not m.startswith("_") and not (ROOT / "tests" / f"test_{m}.py").exists()}
    assert not untested - {"testing"}, f"no tests/test_<module>.py for {sorted(untested - {'testing'})}"
