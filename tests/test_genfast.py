"""gf.<name>: exactly these, each on first use."""

import ast
import re
import subprocess
import sys

import pytest
from rooms import ROOT, tracked

import genfast as gf

NOUNS = [
    "Diffusion", "LatentDiffusion", "VAE", "GAN", "Gaussian", "GaussianMixture", "PPCA", "GenerativeClassifier",
    "Guidance", "Plan", "Fit",
]  # fmt: skip
VERBS = ["fit", "evaluate", "compare", "diagnose", "verify", "save", "load", "info"]
PACKAGES = [
    "nn", "ops", "data", "diffusion", "vae", "gan", "gaussian", "training", "metrics", "features", "evaluation",
    "verification", "studies", "integrations", "testing",
]  # fmt: skip
MODULES = ["schedules", "solvers", "denoisers"]
NAMES = {*NOUNS, *VERBS, *PACKAGES, *MODULES}


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names():
    assert set(gf.__all__) == {*NAMES, "__version__"} == set(dir(gf))
    for name in NAMES:
        assert getattr(gf, name) is not None
    assert all(isinstance(getattr(gf, noun), type) for noun in NOUNS)
    assert all(callable(getattr(gf, verb)) for verb in VERBS)
    assert all(type(getattr(gf, module)).__name__ == "module" for module in (*PACKAGES, *MODULES))
    with pytest.raises(AttributeError, match="module 'genfast' has no attribute 'sampling'"):
        _ = gf.sampling


def test_names_are_resolved_on_first_use():
    loaded = "sorted(name for name in sys.modules if name.startswith('genfast') or name == 'torch')"
    assert python(f"import sys, genfast; print(*{loaded})").split() == ["genfast", "genfast._version"]
    found = python(f"import sys; from genfast import schedules; print(schedules.EDM.__name__, *{loaded})").split()
    assert found[0] == "EDM" and "torch" in found and not {"genfast.gan", "genfast.training"} & set(found)


@pytest.mark.slow
def test_each_name_may_come_first():
    """None needs another one to be imported before it: each in a process of its own, forked where torch is there."""
    program = """
import os, sys, torch
for name in sys.argv[1:]:
    if os.fork() == 0:
        import genfast
        getattr(genfast, name)
        os._exit(0)
    if os.wait()[1]:
        print(name)
"""
    done = subprocess.run([sys.executable, "-c", program, *sorted(NAMES)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_help_does_not_wait_for_torch():
    program = """
import sys
sys.argv = ["genfast", "--help"]
from genfast.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code
assert not {"torch", "numpy"} & set(sys.modules)
"""
    assert "evaluate" in python(program)


def test_readme_and_docstrings_use_these_names_only():
    """What stands in a README or a docstring can be typed."""
    texts = {str(path): path.read_text() for path in tracked(ROOT, ".md")}
    for path in tracked(ROOT / "genfast", ".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (words := ast.get_docstring(node)):
                texts[f"{path}: {getattr(node, 'name', '')}"] = words
    for place, text in texts.items():
        found = set(re.findall(r"\bgf\.(\w+)", text)) | set(re.findall(r"\bgenfast\.(\w+)(?=[.(])", text))
        assert found <= NAMES | {"checkpoint", "__version__"}, f"{place}: {sorted(found - NAMES)}"


def test_threads_may_ask_for_names_at_once():
    program = """
import threading, torch, genfast as gf
gate, found = threading.Barrier(2), []
def ask(name):
    gate.wait()
    found.append(getattr(gf, name))
threads = [threading.Thread(target=ask, args=(name,)) for name in ("LatentDiffusion", "denoisers")]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(found), gf.integrations.diffusers.__name__)
"""
    assert python(program).split() == ["2", "genfast.integrations.diffusers"]
