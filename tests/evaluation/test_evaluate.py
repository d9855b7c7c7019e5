"""evaluate(): what is measured, against what, on models whose truth is known."""

import functools

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from toys import Copier, Gaussian, normal
from vaes import model as small_vae

import genfast as gf
from genfast.evaluation import METRICS, Record
from genfast.metrics import Estimate, Metric

evaluate = functools.partial(gf.evaluate, progress=False)
REAL, TRAIN = normal(160, 3, seed=11), normal(200, 3, seed=12)


@pytest.fixture(scope="module")
def report():
    """Perfect samples, everything measured."""
    return evaluate(Gaussian(3), REAL, train=TRAIN)


def test_real_against_real_is_as_real(report):
    """Samples of the data's own distribution: each interval meets that of real data, and nothing is lost."""
    judged = [record for record in report.records if record.baseline is not None]
    assert {r.name for r in judged} >= {"frechet", "precision", "recall", "coverage", "two_sample", "memorization"}
    assert not any(record.worse for record in judged), str(report)
    for record in judged:
        assert record.estimate.low <= record.baseline.high and record.baseline.low <= record.estimate.high


def test_what_is_left_out_is_said(report):
    assert set(report.left_out) == {"inception_score"} and "classifier" in report.left_out["inception_score"]
    arrays = evaluate(normal(50, 3), REAL, metrics=None)
    assert set(arrays.left_out) == {"inception_score", "memorization", "likelihood"}
    assert "train=" in arrays.left_out["memorization"] and "log_prob" in arrays.left_out["likelihood"]
    assert "no memorization: no training data" in str(arrays)


def test_header(report):
    assert (report.n, report.m, report.seed, report.level) == (160, 160, 0, 0.95)
    assert report.model["name"] == "Gaussian" and report.data["shape"] == [3] and report.features["name"] == "pixels"
    assert report.genfast == gf.__version__ and report.torch == str(torch.__version__)


def test_numbers_are_those_of_the_metrics(report):
    samples = Gaussian(3).sample(160)
    assert report["frechet"].estimate == gf.metrics.frechet(samples, REAL, seed=0)
    assert report["coverage"].estimate == gf.metrics.precision_recall(samples, REAL, seed=0)["coverage"]
    assert report["memorization"].value == gf.metrics.memorization(samples, TRAIN, REAL).share.value
    exact = Gaussian(3).log_prob(REAL).mean().item()
    assert report["nats"].value == pytest.approx(exact, rel=1e-12)
    assert report["bits_per_dim"].better == "lower" and report["nats"].better == "higher"


def test_the_same_call_gives_the_same_report():
    run = functools.partial(evaluate, Gaussian(3), REAL, metrics=["frechet", "two_sample", "likelihood"])
    first, again, other = run(), run(), run(seed=1)
    assert first == again and first.json() == again.json() and hash(first) == hash(again)
    assert first != other and first["frechet"].value != other["frechet"].value


def test_baselines_of_two_parts_of_the_data():
    """Halves where n = m; in the proportion of n to m, and never more than a half, elsewhere."""
    for n, sizes in ((160, (80, 80)), (40, (32, 128)), (400, (80, 80))):
        baseline = evaluate(normal(n, 3), REAL, metrics="frechet")["frechet"].baseline
        assert (baseline.n, baseline.m, baseline.kind, baseline.splits) == (*sizes, "parts of the data", 4)


def test_baselines_of_training_data(report):
    baseline = report["frechet"].baseline
    assert (baseline.n, baseline.m, baseline.kind) == (160, 160, "training data")
    few = evaluate(Gaussian(3), REAL, train=TRAIN[:90], metrics="frechet")["frechet"].baseline
    assert (few.n, few.m, few.kind) == (80, 80, "parts of the data")  # the training data cannot stand for 160
    expected = report["memorization"].baseline
    assert expected.value == expected.low == expected.high == report["memorization"].estimate.details["expected"]
    assert report["nats"].baseline is None and report["nats"].worse is None


def test_a_baseline_is_the_metric_of_real_data():
    """A shift of the whole space changes neither; stretching the data stretches the baseline of Frechet distance."""
    baseline = [evaluate(x, x + 0.0, metrics="frechet")["frechet"].baseline.value for x in (REAL, 3 * REAL)]
    assert baseline[1] == pytest.approx(9 * baseline[0], rel=1e-5) and baseline[0] > 0


def test_worse_is_by_the_sense_of_the_metric():
    def record(better, low, high):
        baseline = gf.evaluation.Baseline(0.5, 0.4, 0.6, 9, 9, 4, "parts of the data")
        return Record("x", better, Estimate(low, low, high, "", 9), baseline)

    above, inside, below = (0.7, 0.8), (0.55, 0.8), (0.1, 0.3)
    expected = {"lower": (True, False, False), "higher": (False, False, True), "near_half": (True, False, True)}
    for better, worse in expected.items():
        assert tuple(record(better, *range_).worse for range_ in (above, inside, below)) == worse


def test_nothing_is_drawn_for_a_likelihood():
    class Dense(Gaussian):
        def sample(self, n, seed=0):
            raise AssertionError("nobody looks at samples")

    assert evaluate(Dense(3), REAL, train=TRAIN, metrics="likelihood")["nats"].estimate.n == 160


def test_a_new_metric_needs_no_change(monkeypatch):
    def spread(samples, real, *, seed, level):
        ratio = (samples.std() / real.std()).item()
        return {"spread": Estimate(ratio, ratio - 0.1, ratio + 0.1, "none", len(samples), len(real), level)}

    monkeypatch.setitem(METRICS, "spread", Metric(spread, ("samples", "real"), "higher"))
    found = evaluate(Gaussian(3, 0.5), REAL, metrics=["spread"])["spread"]
    assert found.value == pytest.approx(0.5, rel=0.1) and found.baseline.value == pytest.approx(1, rel=0.1)
    assert found.worse


def test_names_and_groups():
    groups = gf.evaluation.measure.GROUPS
    assert set(groups["quality"]) >= {"frechet", "kernel_distance", "precision_recall", "two_sample"}
    report = evaluate(Gaussian(3), REAL, metrics=["likelihood", "frechet"])
    assert [record.name for record in report.records] == ["frechet", "nats", "bits_per_dim"]
    with pytest.raises(ValueError, match=r"metrics must be one of frechet, .*, quality; got 'fid'"):
        evaluate(Gaussian(3), REAL, metrics="fid")
    with pytest.raises(ValueError, match="metrics must be names, one or more, or None for all; got none"):
        evaluate(Gaussian(3), REAL, metrics=[])


@pytest.mark.parametrize(
    "name, reason", [("memorization", "train="), ("likelihood", "log_prob"), ("inception_score", "classifier")]
)
def test_asked_for_but_impossible_is_an_error(name, reason):
    with pytest.raises(ValueError, match=f"metrics: {name} does not apply: .*{reason}"):
        evaluate(normal(50, 3), REAL, metrics=[name])


def test_too_few_samples_leave_a_metric_out():
    report = evaluate(normal(4, 3), REAL)
    assert "frechet" in report and "6" in report.left_out["precision_recall"]
    with pytest.raises(ValueError, match="metrics: precision_recall does not apply: samples"):
        evaluate(normal(4, 3), REAL, metrics="precision_recall")


@pytest.mark.parametrize("metrics", [None, "frechet"])
def test_a_model_at_fault_is_an_error_not_a_reason(metrics):
    with pytest.raises(ValueError, match=r"model must draw samples of shape \(64, 3\), .*; got \(64, 2\)"):
        evaluate(Gaussian(2), REAL, metrics=metrics)

    class Odd(Gaussian):
        def log_prob(self, x):
            raise ValueError("x must be complex")

    with pytest.raises(ValueError, match="x must be complex"):
        evaluate(Odd(3), REAL, metrics=None if metrics is None else "likelihood")


def test_baselines_where_samples_are_many_or_training_data_few():
    """Coverage depends on n and m: where real data cannot be had in that proportion, its expectation stands."""
    report = evaluate(normal(1600, 3), REAL, metrics="precision_recall")
    coverage = report["coverage"]
    assert (coverage.baseline.n, coverage.baseline.m) == (1600, 160)
    assert coverage.baseline.kind == "expectation for equal distributions"
    assert coverage.baseline.value == coverage.estimate.details["under_equality"] > 0.99
    assert report["precision"].baseline.kind == "parts of the data"
    few = evaluate(normal(160, 3), REAL, train=TRAIN[:3])
    assert "train" in few.left_out["memorization"] and few["coverage"].baseline.kind == "parts of the data"


@pytest.mark.parametrize("settings, message", [
    ({"seed": 2**63}, "seed must be"), ({"seed": True}, "seed must be"), ({"n": 2.0}, "n must be"),
    ({"sampling": [1]}, "sampling must be a dict"), ({"likelihood": [1]}, "likelihood must be a dict"),
    ({"likelihood": {"levels": 4}}, "likelihood must be empty"),
])  # fmt: skip
def test_settings_are_checked(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate(normal(50, 3), REAL, **settings)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.array, torch.tensor])
def test_integers_and_numbers_of_other_libraries(integer):
    run = functools.partial(evaluate, Gaussian(3), REAL, metrics=["frechet", "two_sample"])
    report = run(n=integer(50), seed=integer(3), level=torch.tensor(0.9, dtype=torch.float64))
    assert report.json() == run(n=50, seed=3, level=0.9).json()


def test_samples_of_another_scale_are_warned_of():
    report = evaluate((REAL + 9) / 18, REAL, metrics="two_sample")
    assert any("one scale" in warning for warning in report.warnings)
    assert not any("one scale" in warning for warning in evaluate(normal(50, 3), REAL, metrics="two_sample").warnings)


def test_memorization_is_seen():
    assert evaluate(Copier(TRAIN), REAL, train=TRAIN, metrics="memorization")["memorization"].worse


def test_inception_score_of_a_classifier():
    """Three classes, far apart: nearly 3 by a classifier that has learned them; of one class alone, nearly 1."""
    features = gf.features.classifier(SORTED, CLASSES, steps=80)
    run = functools.partial(evaluate, features=features, metrics="inception_score", per_class=False)
    found = run(SORTED, SORTED + 0.01)["inception_score"]
    assert 2.5 < found.value <= 3 and not found.worse and found.baseline.value > 2.5
    one = run(SORTED[CLASSES == 1], SORTED)["inception_score"]
    assert one.value < 1.2 and one.worse


# Labels ---------------------------------------------------------------------------------------------------------------

CLASSES = torch.arange(150) % 3
SORTED = normal(150, 2, seed=3) * 0.3 + 2 * torch.nn.functional.one_hot(CLASSES, 3)[:, :2]


class Conditional:
    """Three classes of points. wrong: a class that is drawn as another."""

    classes = 3

    def __init__(self, wrong=None):
        self.wrong, self.asked = wrong, []

    def sample(self, n, label, seed=0):
        self.asked.append(label)
        drawn = torch.where(label == self.wrong, 0, label) if self.wrong is not None else label
        return normal(n, 2, seed) * 0.3 + 2 * torch.nn.functional.one_hot(drawn, 3)[:, :2]


def test_labels_are_asked_for_as_the_data_have_them():
    """Evenly, though the data are sorted by class and n is no multiple of their number."""
    model = Conditional()
    report = evaluate(model, (SORTED, CLASSES), metrics="frechet", n=200)
    asked = torch.cat(model.asked)
    assert torch.equal(asked[:150].sort().values, CLASSES.sort().values) and torch.equal(asked[150:], asked[:50])
    assert torch.bincount(asked[:50], minlength=3).min() >= 10
    agreement = report["label_agreement"]
    assert agreement.value > 0.97 and not agreement.worse and agreement.baseline.value > 0.97
    counts = torch.bincount(asked).tolist()
    assert [(row.label, row.n, row.m) for row in report.per_class] == [(c, counts[c], 50) for c in range(3)]
    row = report.per_class[1]
    assert row["coverage"].value > 0.8 and row["frechet"].baseline.n == 25
    assert "class" in str(report) and "label_agreement" in str(report)


def test_a_class_that_is_another():
    report = evaluate(Conditional(wrong=2), (SORTED, CLASSES), metrics="frechet")
    assert report["label_agreement"].worse and report["label_agreement"].value == pytest.approx(2 / 3, abs=0.04)
    assert report.per_class[2]["coverage"].value < 0.1 and report.per_class[1]["coverage"].value > 0.8
    assert "Class 2 is worst" in str(gf.diagnose(report))


NAMED = gf.data.Data(SORTED, CLASSES, names=("cat", "dog", "eel"))


class Named(Conditional):
    """Knows its classes by name."""

    names = ("cat", "dog", "eel")


def test_classes_are_matched_by_their_names(tmp_path):
    """Data of two of the classes, in another order than that of the model."""
    kept = CLASSES > 0
    data = gf.data.Data(SORTED[kept], 2 - CLASSES[kept], names=("eel", "dog"))
    model = Named()
    report = evaluate(model, data, metrics="frechet")
    assert report["label_agreement"].value > 0.97 and torch.cat(model.asked).unique().tolist() == [1, 2]
    assert [row.label for row in report.per_class] == [0, 1] and report.data["names"] == ["eel", "dog"]
    rows = [line.split()[0] for line in str(report).splitlines() if line.strip()]
    assert "eel" in rows and "dog" in rows and "0" not in rows
    report.save(tmp_path / "report.json")
    assert gf.evaluation.Report.load(tmp_path / "report.json") == report
    assert "Class eel is worst" in str(gf.diagnose(evaluate(Named(wrong=2), NAMED, metrics="frechet")))
    evaluate(Named(), data, train=gf.data.Data(SORTED + 1, CLASSES, names=("cat", "dog", "eel")), metrics="frechet")
    one = evaluate(Named(), NAMED, metrics="frechet")
    other = evaluate(Conditional(), NAMED, metrics="frechet")
    gf.compare([("by name", one), ("by number", other)])  # the same data
    with pytest.raises(ValueError, match="data must have classes among cat, dog, eel; got ape, dog"):
        evaluate(Named(), gf.data.Data(SORTED, CLASSES.clamp(max=1), names=("ape", "dog")))


def test_labels_that_are_no_classes_are_never_asked_for():
    model = Conditional()
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\); got 3 in 50 of 150 samples"):
        evaluate(model, (SORTED, CLASSES + 1))
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\); got -1 in 50 of 150 samples"):
        evaluate(model, (SORTED, CLASSES - 1))
    assert model.asked == []
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\), or be -1 for unknown; got 3 in 50 of 150"):
        evaluate((SORTED, CLASSES + 1), (SORTED + 0.1, CLASSES))  # samples that are there already


def test_rows_of_unknown_label_are_no_class():
    class Null(Conditional):
        unknown_labels = True

        def sample(self, n, label, seed=0):
            self.asked.append(label)
            return super().sample(n, label.clamp(min=0), seed)

    model, label = Null(), torch.where(torch.arange(150) < 60, -1, CLASSES)
    report = evaluate(model, (SORTED, label), metrics="frechet")
    assert (torch.cat(model.asked[::2]) == -1).sum() == 60
    agreement = report["label_agreement"]
    assert agreement.estimate.n == 90 and agreement.baseline.n == 90 and agreement.value > 0.97
    assert [(row.label, row.n, row.m) for row in report.per_class] == [(c, 30, 30) for c in range(3)]
    nothing = gf.data.Data(SORTED, torch.full((150,), -1), 3)
    assert evaluate(Null(), nothing, metrics="frechet").per_class == ()


def test_a_setting_of_the_model_goes_before_the_data():
    class One(Conditional):
        def sample(self, n, label, seed=0):
            assert label == 1
            return super().sample(n, torch.full((len(n),), label), seed)

    for data in (SORTED[CLASSES == 1], NAMED):
        report = evaluate(One(), data, metrics="frechet", sampling={"label": 1})
        assert report.per_class == () and (report["frechet"].value < 0.2) == (data is not NAMED)


class Copy(torch.nn.Module):
    """Answers with its condition."""

    def __init__(self):
        super().__init__()
        self.weight, self.told = torch.nn.Parameter(torch.zeros(())), []

    def forward(self, y, t, condition=None):
        self.told.append(condition is not None)
        return (0 if condition is None else condition) + 0 * y + self.weight


def test_conditions_go_to_the_model_row_by_row():
    x = normal(200, 2, seed=4)
    model = gf.Diffusion(Copy(), "flow", "x0", shape=(2,))
    data = gf.data.Data(x, condition=x)
    report = evaluate(model, data, metrics="frechet", sampling={"steps": 2})
    assert report["frechet"].value < 1e-6 and all(model.net.told)
    report = evaluate(model, data, metrics="likelihood", likelihood={"n": 8, "steps": 2})
    assert "nats" in report and all(model.net.told)


def test_a_network_without_a_gradient_to_its_input_has_no_likelihood():
    """What was not asked for is left out, with the reason; what was, is an error."""

    class Passed(Copy):
        def forward(self, y, t, condition):
            return condition + self.weight

    x = normal(50, 2, seed=4)
    model, data = gf.Diffusion(Passed(), "flow", "x0", shape=(2,)), gf.data.Data(x, condition=x)
    report = evaluate(model, data, sampling={"steps": 2})
    assert report["frechet"].value < 1e-6 and "net must be differentiable" in report.left_out["likelihood"]
    with pytest.raises(ValueError, match="metrics: likelihood does not apply: net must be differentiable"):
        evaluate(model, data, metrics="likelihood", sampling={"steps": 2})


def test_conditions_of_a_likelihood_that_takes_none():
    class Half(Gaussian):
        def sample(self, n, seed=0, condition=None):
            return super().sample(n, seed)

        def log_prob(self, x):
            return -x.square().sum(1)

    data = gf.data.Data(normal(20, 2), condition=normal(20, 2))
    with pytest.warns(UserWarning, match=r"data have conditions, which Half.log_prob does not take"):
        assert "nats" in evaluate(Half(2), data, metrics="likelihood")


def test_agreement_by_a_classifier():
    features = gf.features.classifier(SORTED, CLASSES, steps=80)
    x = SORTED.roll(1, 0)  # every sample is of the class before
    report = evaluate((x, CLASSES), (SORTED + 0.01, CLASSES), features=features, metrics="frechet")
    agreement = report["label_agreement"]
    assert agreement.value < 0.05
    shares = [(found, round(found.value * 150)) for found in (agreement.estimate, agreement.baseline)]
    for found, right in shares:  # Wilson's interval, from another implementation
        expected = scipy.stats.binomtest(right, 150).proportion_ci(0.95, method="wilson")
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_per_class_can_be_refused_and_asked_for():
    assert evaluate(Conditional(), (SORTED, CLASSES), metrics="frechet", per_class=False).per_class == ()
    assert evaluate(SORTED, (SORTED + 0.1, CLASSES), metrics="frechet").per_class == ()
    with pytest.raises(ValueError, match=r"per_class must be False or None, for the samples have no labels"):
        evaluate(SORTED, (SORTED + 0.1, CLASSES), metrics="frechet", per_class=True)


# Files and pictures ---------------------------------------------------------------------------------------------------


def test_out(tmp_path):
    images, train = (normal(n, 64, seed).view(-1, 1, 8, 8).clamp(-1, 1) for n, seed in ((80, 1), (90, 2)))
    report = evaluate(
        images, images.flip(0) * 0.9, train=train, metrics=["kernel_distance", "memorization"], out=tmp_path / "a" / "b"
    )
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == {"report.json", "samples.png", "memorization.png", "report.png"}
    assert gf.evaluation.Report.load(folder / "report.json") == report
    sheet = np.asarray(Image.open(folder / "samples.png"))
    assert sheet.shape == (8 * 42 + 2,) * 2 and set(np.unique(sheet[:2])) == {255}
    assert np.asarray(Image.open(folder / "memorization.png")).shape == (2 * 42 + 2, 12 * 42 + 2)


def test_the_picture_of_copies_shows_pairs(tmp_path):
    """Above a sample, below the training image that it copies."""
    train = normal(64, 64, 5).view(-1, 1, 8, 8).clamp(-1, 1)
    held_out = normal(64, 64, 6).view(-1, 1, 8, 8).clamp(-1, 1)
    evaluate(train[10:40] + 0.0, held_out, train=train, metrics="memorization", out=tmp_path)
    sheet = np.asarray(Image.open(tmp_path / "memorization.png"))
    assert np.array_equal(sheet[:42], sheet[42:84]) and len(np.unique(sheet)) > 10


def test_no_pictures_of_vectors(tmp_path):
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.png"}


def test_nothing_to_draw(tmp_path):
    report = evaluate(normal(2, 3), REAL, out=tmp_path)
    assert report.records == () and {path.name for path in tmp_path.iterdir()} == {"report.json"}


def test_pictures_of_others_stay(tmp_path):
    """Of an earlier report they are replaced or removed; without one, a picture of the name is somebody else's."""
    images = normal(40, 64, 1).view(-1, 1, 8, 8).clamp(-1, 1)
    (tmp_path / "samples.png").write_text("mine")
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path)
    assert (tmp_path / "samples.png").read_text() == "mine"
    evaluate(images, images.flip(0) * 0.9, metrics="kernel_distance", out=tmp_path / "images")
    assert (tmp_path / "images" / "samples.png").exists()
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path / "images")
    assert not (tmp_path / "images" / "samples.png").exists()


@pytest.mark.parametrize("name", ["report.json", "samples.png", "memorization.png", "report.png"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    """Before the work, and none of them."""

    class Idle:
        def sample(self, n, seed=0):
            pytest.fail("it was asked for samples")

    images = normal(40, 64, 1).view(-1, 1, 8, 8)
    for text in ("mine", '{"schema": "theirs"}', ""):
        (tmp_path / name).write_text(text)
        with pytest.raises(FileExistsError, match=rf"out must have no files of others.*; got {name} in {tmp_path}"):
            evaluate(Idle(), images, metrics="kernel_distance", out=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == text
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path / "own")
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path / "own")  # its own are


def test_a_folder_that_cannot_be_written_to_is_known_before_the_work(tmp_path):
    class Idle:
        def sample(self, n, seed=0):
            pytest.fail("it was asked for samples")

    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(OSError, match=f"out must be a folder that can be written to; got {out}"):
            evaluate(Idle(), REAL, metrics="frechet", out=out)


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    evaluate(normal(40, 3), REAL, metrics="frechet", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}


# Real digits, a real model --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_diffusion_model_of_digits(tmp_path):
    torch.manual_seed(0)
    train, test = gf.data.digits("train"), gf.data.digits("test")
    model = gf.Diffusion(
        gf.nn.UNet(channels=1, width=4, multipliers=(1,), classes=10), parameterization=gf.denoisers.EDM(0.75)
    )
    gf.fit(model, train, steps=40, lr=4e-3, warmup=10, progress=False)
    run = functools.partial(
        evaluate, model, test, train=train, n=140, sampling={"steps": 3, "clamp": (-1.0, 1.0)},
        likelihood={"n": 8, "steps": 3, "probes": 1, "chunk": 8}, metrics=["frechet", "memorization", "likelihood"],
    )  # fmt: skip
    report = run(out=tmp_path)
    assert report == run() and len(report.per_class) == 10
    assert report["nats"].estimate.n == 8 and "probability flow" in report["nats"].estimate.method
    assert "dequantized from 17 levels" in report["nats"].estimate.method
    assert not any("distinct values" in warning for warning in report.warnings)
    assert report["frechet"].worse and report["frechet"].baseline.kind == "training data"
    assert report.sampling == {"steps": 3, "clamp": [-1.0, 1.0], "chunk": 64}


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, match, change",
    [
        (TypeError, "model must be a model with sample.*; got int", {"model": 3}),
        (TypeError, "data must be Data, .*; got NoneType", {"data": None}),
        (TypeError, "data: .*floating-point", {"data": np.zeros((5, 3), int)}),
        (ValueError, r"model must hold samples of shape \(3,\)", {"model": normal(9, 2)}),
        (ValueError, "n must be at most 60", {"n": 61}),
        (ValueError, "n must be an integer of at least 2", {"n": 1}),
        (ValueError, "n must be an integer of at least 2", {"n": 9.0}),
        (ValueError, r"seed must be an integer from 0 to 2\^63 - 1", {"seed": -1}),
        (ValueError, r"level must be a number in \(0, 1\)", {"level": 95}),
        (ValueError, "features.* one of .*fid", {"features": "fid"}),
        (ValueError, "sampling must be empty", {"sampling": {"steps": 3}}),
        (ValueError, r"train must hold samples of shape \(3,\)", {"train": normal(9, 2)}),
        (ValueError, "train must be other samples than data", {"train": REAL}),
    ],
)  # fmt: skip
def test_bad_arguments(error, match, change):
    with pytest.raises(error, match=match):
        evaluate(**{"model": normal(60, 3), "data": REAL, "metrics": "frechet"} | change)


@pytest.mark.parametrize("answer", [None, {"x": 1}, np.ma.masked_array(np.ones((9, 2)), mask=False)])
def test_what_is_no_sample(answer):
    class Odd:
        def sample(self, n, seed=0):
            return answer

    with pytest.raises(TypeError, match=r"must (draw a tensor or an array|be an array without a mask); got"):
        evaluate(Odd(), normal(9, 2), metrics="frechet")


@pytest.mark.parametrize("features", ["random_conv", "classifier"])
def test_whatever_the_default_dtype_is(default_dtype, features):
    key = gf.ops.make_key(0, 60)
    x, label = gf.ops.uniform(key, (1, 8, 8)) * 2 - 1, torch.arange(60) % 3

    def found():
        own = gf.features.classifier(x, label, steps=2) if features == "classifier" else features
        return evaluate((x[:30], label[:30]), (x[30:], label[30:]), features=own)

    expected = found()
    with default_dtype():
        assert found() == expected


def test_unknown_settings_of_a_likelihood_are_refused_before_any_work():
    model = gf.Diffusion(gf.nn.MLP(3, width=8, depth=1), shape=(3,))

    def draw(*_, **__):
        raise AssertionError("samples were drawn")

    model.sample = draw
    for metrics in (None, "frechet"):
        with pytest.raises(ValueError, match=r"likelihood must have settings among .*, probes, .*; got stps"):
            evaluate(model, REAL, metrics=metrics, likelihood={"stps": 2, "probes": 3})
    with pytest.raises(ValueError, match="likelihood must have settings among draws, levels, n for log_weights; got"):
        evaluate(small_vae(shape=(6,)), normal(20, 6), likelihood={"steps": 2})
    with pytest.raises(TypeError, match=r"likelihood must be a dict of settings by their names; got \{1: 2\}"):
        evaluate(model, REAL, likelihood={1: 2})
    with pytest.raises(ValueError, match=r"sampling must have settings of Gaussian\.sample; got steps"):
        evaluate(Gaussian(3), REAL, sampling={"steps": 2})
