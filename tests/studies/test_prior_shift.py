"""The study prior-shift: the rule that makes the mail has a known best accuracy, which re-weighting reaches."""

import pytest
import torch

import genfast as gf
from genfast.studies import prior_shift


@pytest.fixture(scope="module")
def mail():
    return prior_shift.mail(seed=0, count=20_000)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_reweighted_mail_is_told_as_well_as_can_be(mail, rate):
    """As by Bayes' rule on the densities that made it, to what 4,000 messages leave unknown."""
    ordinary = gf.Gaussian.from_moments([0.0, 0.0], [[1.0, 0.3], [0.3, 1.0]])
    spam = gf.Gaussian.from_moments([1.0, 1.0], [0.0625, 0.0625])
    x, label = mail.draw(rate)
    assert float(label.double().mean()) == rate
    best = gf.GenerativeClassifier([ordinary, spam], [1 - rate, rate]).accuracy((x, label))
    unadapted, reweighted, by_em, _, estimate = mail.accuracies(rate)
    assert abs(reweighted - best) < 0.005 and abs(by_em - best) < 0.005 and abs(estimate - rate) < 0.02
    assert unadapted < best - 0.05 or rate == prior_shift.BEFORE


def test_held_out_mail_is_new(mail):
    """No message of one base rate's set is in another's training set."""
    train = prior_shift.mail(seed=1, count=100).draw(0.5)[0]
    assert len(torch.unique(torch.cat([mail.draw(0.5)[0], train]), dim=0)) == 20_100


def test_digits_are_split_in_halves():
    x, label = prior_shift.eights(0, 5000, split=0).draw(0.5)
    eights, others = (torch.unique(x[label == k], dim=0) for k in (1, 0))
    assert 60 < len(eights) < 115 and 750 < len(others) < 840 and label.sum() == 2500


def test_what_it_finds():
    finding = prior_shift.study(seed=0, progress=False, count=5000, splits=4)
    assert finding.holds, str(finding)
    assert finding.picture().startswith(b"\x89PNG")
    losses = {row[:2]: row[-1] for row in finding.rows}
    assert losses["mail", "unadapted"] > 4 > 1 >= losses["mail", "re-weighted"]
