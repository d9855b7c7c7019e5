"""csrc/kernels/body.h: a driver takes a body that keeps the protocol, and refuses any other in one sentence."""

import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "csrc" / "bodies.cpp"


@pytest.mark.parametrize(
    ("driver", "body", "reason"),
    [
        ("map", "Good", None),
        ("reduce", "GoodSum", None),
        ("map", "NoRow", "row"),
        ("map", "NotOfTiles", "row"),
        ("map", "GivesTerms", "same_as|is_same"),
        ("map", "NoCopy", "copy"),
        ("reduce", "NoSums", "of"),
        ("reduce", "NoFinish", "finish"),
    ],
)
def test_the_protocol_is_enforced(driver, body, reason):
    command = ["g++", "-std=c++20", "-fsyntax-only", "-DGENFAST_ISA=scalar", "-DGENFAST_LANES=1"]
    done = subprocess.run(
        [*command, f"-DDRIVER={driver}", f"-DBODY={body}", str(SOURCE)], capture_output=True, text=True
    )
    if reason is None:
        assert done.returncode == 0, done.stderr
    else:
        concept = {"map": "MapBody", "reduce": "ReduceBody"}[driver]
        assert done.returncode and "constraints not satisfied" in done.stderr and concept in done.stderr
        assert any(word in done.stderr for word in reason.split("|"))
