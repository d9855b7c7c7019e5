"""tests/csrc/predict: the model on machine code that was written for it, and its record."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
from predict import model, sass, table, walk


def line(at, text, stall=1, result=7, operands=7, waits=()):
    """An instruction as cuobjdump prints it."""
    control = stall | result << 5 | operands << 8 | sum(1 << 11 + k for k in waits)
    return f"        /*{at:04x}*/                   {text} ;    /* 0x{0:016x} */\n /* 0x{control << 41:016x} */\n"


def listing(*texts, **at):
    return "".join(line(16 * k, *(t if isinstance(t, tuple) else (t,))) for k, t in enumerate(texts))


LOOP = listing(
    "MOV R1, c[0x0][0x28]",
    ("LDG.E.128 R4, desc[UR4][R2.64]", 4, 0),  # 0x10
    ("FADD R4, R4, R4", 4, 7, 7, (0,)),
    "STG.E.128 desc[UR4][R2.64], R4",
    "@!P0 BRA 0x10",
    "@P1 CALL.REL.NOINC 0x80",
    "EXIT",
    "NOP",
    "MUFU.RCP R0, R0",
    "RET.REL.NODEC R2 0x0",
)


def code(text):
    return tuple(sass.instructions(text))


def test_control_words_are_read():
    load, add = code(LOOP)[1:3]
    assert (load.op, load.stall, load.sets) == ("LDG.E.128", 4, (0, 7))
    assert add.waits == (0,)
    assert code(LOOP)[4].name == "@!P0 BRA" and code(LOOP)[4].op == "BRA"


def test_the_walk_goes_round_as_often_as_it_must():
    for times in (1, 2, 5):
        wants = ((model.ANY + r"LDG\S*\.128", times), (model.ANY + r"STG\S*\.128", times))
        path = [i.op for i in walk.walk(code(LOOP), wants)]
        assert path.count("LDG.E.128") == path.count("STG.E.128") == times
        assert len(path) == 1 + 4 * times + 2
    with pytest.raises(LookupError, match="no way through"):
        walk.walk(code(LOOP), ((r"HMMA", 1),))


def test_a_warp_waits_for_what_it_loads():
    path = walk.walk(code(LOOP), ((r"LDG", 1), (r"STG", 1)))
    assert model.alone(path, "LDG", 0, 1) - model.alone(path, "LDG", 0, 0) == model.DRAM - model.CACHE


def test_what_fits_on_a_multiprocessor():
    assert model.blocks_per_sm(256, 32, 0) == 8
    assert model.blocks_per_sm(256, 64, 0) == 4
    assert model.blocks_per_sm(64, 16, 0) == 32
    assert model.blocks_per_sm(256, 32, 100 * 1024) == 2


def test_a_copy_reaches_the_speed_of_a_copy(monkeypatch):
    monkeypatch.setattr(model, "find", lambda *_: sass.Kernel("copy", code(LOOP), 16, 0))
    model.counted.cache_clear()
    n = 2**28
    launch = model.Launch(256, n // 1024, n, 4, read=4, write=4)
    row = table.Row("copy", 8 * n, (("copy", "copy", launch),), target=99.9)
    found = table.predict(row, {"copy": Path("copy")})
    assert 97 < found.share < 100.5
    assert table.predict(row, {"copy": Path("copy")}).us > 8 * n / model.BYTES_PER_US


def test_slower_than_recorded_is_a_problem(monkeypatch, tmp_path):
    record = tmp_path / "shares.json"
    monkeypatch.setattr(table, "SHARES", record)
    row = table.Row("op", 4.266e6 * 80, (), target=85)
    now = table.Prediction(row, 100.0, {"dram": 60.0, "issue": 90.0}, {})
    assert now.share == pytest.approx(80)
    assert "no share is recorded" in table.problems([now])[0]
    for share, problems in ((82.9, 0), (83.1, 1), (70, 0)):
        record.write_text(json.dumps({"op": share}))
        assert len(table.problems([now])) == problems
    assert "target 85; issue alone" in table.missed([now])[0]
    table.record([now], all_of_them=False)
    assert json.loads(record.read_text()) == {"op": 80.0}


def test_the_record_names_the_rows_there_are():
    assert sorted(table.recorded()) == sorted(row.name for row in table.rows())
