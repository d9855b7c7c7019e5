"""benches/: the command runs; rivals do the same work: eager code, given the same noise, computes what genfast does."""

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import genfast
from genfast import ops, testing

BENCHES = Path(__file__).parents[1] / "benches"
KEYS = {"bench", "case", "shape", "dtype", "provider", "device", "threads", "torch", "time_ms", "bandwidth_gbs"}
OF_WORK, OF_TRAFFIC = {"per_second"}, {"of_copy"}


@pytest.fixture
def bench_ops(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    return pytest.importorskip("bench_ops")


@pytest.fixture
def bench_networks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    return pytest.importorskip("bench_networks")


def run(bench, *arguments):
    package = str(Path(genfast.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(BENCHES / "run.py"), bench, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_quick_run_prints_a_table_and_writes_rows(tmp_path):
    file = tmp_path / "new" / "rows.json"
    result = run("ops", "--quick", "--threads", "1", "--json", str(file))
    assert result.returncode == 0, result.stderr
    content = json.loads(file.read_text())
    assert set(content) == {"machine", "torch", "date", "rows", "failed"} and not content["failed"]
    assert list(file.parent.iterdir()) == [file]
    rows = content["rows"]
    assert {row["case"] for row in rows} >= {"copy", "step_ddpm", "step_euler_y", *testing.CASES}
    assert {row["case"] for row in rows} >= {"group_norm_act_nhwc", "group_norm_act_nhwc_backward"}
    check(rows, result.stdout)
    for case in testing.CASES:
        assert {"genfast", "eager"} <= {row["provider"] for row in rows if row["case"] == case}


def check(rows, table):
    for row in rows:
        assert set(row) - KEYS in (OF_WORK, OF_TRAFFIC) or row["case"] == "copy"
        p20, p50, p80 = row["time_ms"]
        assert 0 < p20 <= p50 <= p80
        assert row["bandwidth_gbs"] > 0
        assert row["case"] in table and row["provider"] in table


QUICK = {"networks": ["--cases", "dit_s_2"], "loops": [], "training": [], "metrics": []}


@pytest.mark.slow
@pytest.mark.parametrize("bench", QUICK)
def test_quick_run_counts_its_work(bench, tmp_path):
    file = tmp_path / "rows.json"
    result = run(bench, "--quick", "--threads", "1", *QUICK[bench], "--json", str(file))
    assert result.returncode == 0, result.stderr
    rows = json.loads(file.read_text())["rows"]
    check(rows, result.stdout)
    units = {unit for row in rows for unit in row.get("per_second", ())}
    assert (
        units == {{"loops": "images", "training": "samples"}.get(bench, "GFLOP")}
        and f"{units.pop()}/s" in result.stdout
    )


def test_a_provider_that_fails_is_reported_and_the_others_are_timed(bench_ops, monkeypatch, tmp_path, capsys):
    run_py = pytest.importorskip("run")
    monkeypatch.setattr(run_py, "keep_freed_memory", lambda: None)
    monkeypatch.setitem(bench_ops.peers._EAGER, "normal", lambda **arguments: 1 / 0)
    options = ["--quick", "--threads", "1", "--json", str(tmp_path / "rows.json")]
    with pytest.raises(SystemExit, match="2 of what was to be timed failed"):
        run_py.main(["ops", "--cases", "normal", *options])
    content = json.loads((tmp_path / "rows.json").read_text())
    providers = [(row["dtype"], row["provider"]) for row in content["rows"] if row["case"] == "normal"]
    assert providers == [("float32", "genfast"), ("bfloat16", "genfast")]
    assert content["failed"] == 2 * ["normal, eager: ZeroDivisionError: division by zero"]
    assert content["failed"][0] in capsys.readouterr().out


def test_torch_compiles_each_bench_for_its_own_shapes(bench_ops, monkeypatch):
    """Left alone it gives up at the ninth, in silence, and times plain code."""
    real, graphs = torch.compile, []
    backend = {"backend": lambda graph, inputs: graphs.append(graph) or graph.forward}
    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, **options, **backend))
    for features in range(5, 15):
        shape = (2, features)
        bench = bench_ops._case(testing.CASES["dot"], shape, torch.float32, torch.device("cpu"), True, False, False)
        bench.providers["compile"](**bench.args)
    assert len(graphs) == 10


def test_inputs_of_large_batches_repeat_the_rows_of_small_ones(bench_ops, monkeypatch):
    monkeypatch.setattr(bench_ops, "DRAWN", 3 * 65)
    for case in testing.CASES.values():
        large = bench_ops._inputs(case, (7, 65), torch.float32, torch.device("cpu"))
        small = case.inputs((3, 65), torch.float32, torch.Generator().manual_seed(0))
        wanted = case.rows(small, torch.arange(7) % 3)
        found = [t.shape for t in case.op(**testing.to(large, torch.clone))]
        assert found == [t.shape for t in case.op(**testing.to(case.inputs((7, 65), torch.float32, None), torch.clone))]
        assert all(torch.equal(large[n], wanted[n]) for n in wanted if torch.is_tensor(wanted[n]))


def test_launches_print_and_write_what_they_count(tmp_path):
    result = run("launches", "--cases", "demo", "--json", str(tmp_path / "rows.json"))
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["mode"] for row in rows] == ["forward", "channels-last", "bfloat16", "prepare", "step"]
    for row in rows:
        assert row["case"] == "demo" and row["launches"] == sum(row["by_name"].values()) > 0
        assert f"{row['mode']:<15}{row['launches']:>6}" in result.stdout
    assert rows[0]["by_name"]["group_norm_act"] == 18


def test_peers_of_metrics_count_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    bench_metrics = pytest.importorskip("bench_metrics")
    args = bench_metrics._sets((300, 16))
    for name, (_, providers) in bench_metrics.CASES.items():
        ours, theirs = (provider(**args) for provider in list(providers.values())[:2])
        for a, b in zip(ours, theirs, strict=True):
            wanted = b.square() if name == "nearest" and b.is_floating_point() else b
            torch.testing.assert_close(a.double(), wanted.double(), rtol=1e-4, atol=0)


def test_composed_ops_compute_the_same_with_none_of_ours(bench_ops):
    peers, key = bench_ops.peers, ops.make_key(0, 4)
    batch = {"x": torch.rand(4, 1, 8, 8) * 2 - 1, "label": torch.arange(4)}
    nn, sizes = genfast.nn, {"channels": 1, "width": 8, "classes": 4}
    gan = genfast.GAN(nn.Generator((8, 8), width=8), nn.Discriminator((8, 8), width=8), latent=16)
    nets = [nn.UNet(**sizes, dropout=0.1), nn.DiT(**sizes, patch=2, depth=2, heads=1)]
    losses = [genfast.Diffusion(net).loss for net in nets] + [
        genfast.VAE(nn.Encoder((8, 8), width=8), nn.Decoder((8, 8), width=8), latent=16).loss,
        *(functools.partial(gan.loss, player=player) for player in gan.players()),
    ]
    for loss in losses:

        def step(loss=loss):
            loss(batch | {"label": None}, key).sum().backward()

        ours = testing.count_launches(step)
        with peers.composed_ops():
            theirs = testing.count_launches(step)
        assert any(hasattr(torch.ops.genfast, name) for name in ours)
        assert not [name for name in theirs if hasattr(torch.ops.genfast, name)]
    for net, contiguous in itertools.product(nets, (False, True)):
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        net.eval()
        wanted = net(batch["x"], torch.full((4,), 0.5), label=batch["label"])
        with peers.composed_ops(contiguous):
            found = net(batch["x"], torch.full((4,), 0.5), label=batch["label"])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert ops.diffuse.__module__ == "genfast.ops.diffuse"


def test_unknown_case_is_refused_by_name():
    result = run("ops", "--cases", "nonsense")
    assert result.returncode != 0
    assert "nonsense" in result.stderr and "denoising_loss" in result.stderr


def _bench(bench_ops, name):
    make = next(bench_ops.benches([name], torch.device("cpu"), True, False))
    return make()


def _genfast(bench):
    args = testing.to(bench.args, torch.clone)
    bench.providers["genfast"](**args)
    return [args[name] for name in ("x", "y", "history") if name in args]


@pytest.mark.parametrize("name", [name for name in testing.CASES if name.startswith("step_")])
def test_eager_step_is_the_step(bench_ops, name):
    bench, case = _bench(bench_ops, name), testing.CASES[name]
    args = bench.args
    codes = args["table"].codes
    draws = int((codes[:, 1] - codes[:, 0]).max())
    z = [_rows_of_noise(args, draw) for draw in range(draws)]
    eager = bench_ops.peers.eager(case)(**args, draws=draws, slots=int(codes[:, 2].max()).bit_length(), z=z)
    x, y, *history = _genfast(bench)
    torch.testing.assert_close(eager[0], x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(eager[1], y, rtol=1e-4, atol=1e-5)
    if history:
        torch.testing.assert_close(torch.stack(eager[2:]), history[0], rtol=1e-4, atol=1e-5)


def _rows_of_noise(args, draw):
    streams = args["table"].streams[args["table"].codes[args["row"].long(), 0] + draw].tolist()
    shape = args["x"].shape[1:]
    pairs = [ops.split_stream(stream) for stream in streams]
    return torch.cat([ops.normal(args["key"][i : i + 1], shape, *pair) for i, pair in enumerate(pairs)])


@pytest.mark.parametrize("name", ["step_ddpm_y", "step_euler_y"])
def test_peers_take_the_same_step(bench_ops, name):
    """Each peer, given the noise that genfast draws, or drawing what it hands to the eager version."""
    bench = _bench(bench_ops, name)
    wanted = _genfast(bench)
    z = _rows_of_noise(bench.args, 0) if len(bench.args["table"].streams) else None
    for provider, step in bench.providers.items():
        if provider.startswith("eager"):
            for found, value in zip(step(**bench.args, z=z), wanted):
                torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
    if "diffusers" in bench.providers:
        z = torch.randn(bench.shape, generator=torch.Generator().manual_seed(0))
        theirs = bench.providers["diffusers"](**bench.args, generator=torch.Generator().manual_seed(0))
        for found, value in zip(theirs, bench.providers["eager"](**bench.args, z=z)):
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["unet_ddpm_cifar10", "unet_ddpm_cifar10_ddim", "dit_s_2"])
def test_peers_of_networks_compute_the_same(bench_networks, name):
    """Where their name does not say other weights."""
    bench = _bench(bench_networks, name)
    wanted = bench.providers["genfast"](**bench.args)
    assert wanted.std() > 0.01
    for provider, function in bench.providers.items():
        if provider != "diffusers_other":
            torch.testing.assert_close(function(**bench.args), wanted, rtol=1e-3, atol=1e-4, msg=provider)


def test_flops_of_a_convolution_and_of_a_transformer(bench_networks):
    net = genfast.nn.UNet(channels=1, width=4, multipliers=(1,), middle="blocks")
    larger = genfast.nn.UNet(channels=3, width=4, multipliers=(1,), middle="blocks")
    counts = [bench_networks.flops(n, torch.zeros(2, n.channels, 8, 8)) for n in (net, larger)]
    assert counts[1] - counts[0] == 2 * (2 * 64) * 9 * 4 * (2 + 2)  # two channels more, in and out
    dit = genfast.nn.DiT(channels=1, patch=2, width=8, depth=1, heads=1)
    deeper = genfast.nn.DiT(channels=1, patch=2, width=8, depth=2, heads=1)
    counts = [bench_networks.flops(n, torch.zeros(2, 1, 8, 8)) for n in (dit, deeper)]
    tokens = 2 * 16
    assert counts[1] - counts[0] == 2 * (tokens * (12 * 64 + 2 * 16 * 8) + 2 * 6 * 64)


def test_quick_run_of_host_times_each_op_beside_torch(tmp_path):
    result = run("host", "--quick", "--json", str(tmp_path / "rows.json"))
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["case"] for row in rows} >= {"group_norm_act_no_grad", "group_norm_act_backward", "step_no_grad"}
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        assert (ours["provider"], theirs["provider"]) == ("genfast", "torch") and ours["case"] == theirs["case"]
        assert set(ours) == KEYS - {"bandwidth_gbs"} and 0 < ours["time_ms"][0] <= ours["time_ms"][1]
        assert ours["case"].rsplit("_no_grad")[0].removesuffix("_backward") in result.stdout
