"""The command: verbs, help, and exit codes."""

import json
import subprocess
import sys

import pytest

import genfast as gf


def genfast(*arguments):
    command = [sys.executable, "-m", "genfast.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_info_prints_what_info_says():
    result = genfast("info")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(gf.info())
    assert gf.__version__ in result.stdout.splitlines()[0]


def test_info_as_json():
    report = json.loads(genfast("info", "--json").stdout)
    assert report.keys() == gf.info().keys() and report["genfast"] == gf.__version__


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"]])
def test_help(arguments):
    result = genfast(*arguments)
    assert result.returncode == 0 and "info" in result.stdout and "usage: genfast" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["dance"], ["info", "--jsn"], ["info", "now"]])
def test_bad_commands_exit_with_an_error(arguments):
    result = genfast(*arguments)
    assert result.returncode != 0 and result.stderr and "Traceback" not in result.stderr
