"""The figures we report: worked by hand where they can be, and as sure as they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from matching.evaluation import Answers, bootstrap, calibration_error, curve, province_metrics, reliability, share


def answers(*rows: tuple[float, bool, bool]) -> Answers:
    claimed, right, registered = zip(*rows, strict=True) if rows else ((), (), ())
    return Answers(np.array(claimed, dtype=float), np.array(right, dtype=bool), np.array(registered, dtype=bool))


# Five clients, four of them registered: three named rightly, one wrongly although registered, one registered nowhere.
FIVE = answers((0.9, True, True), (0.8, True, True), (0.7, False, True), (0.6, True, True), (0.3, False, False))


def test_figures_worked_by_hand() -> None:
    found = FIVE.metrics()
    assert (found.clients, found.registered, found.top1) == (5, 4, 0.75)
    # Named down to .6: 3 right of 4 named, 3 of 4 homes found.
    assert [found.best_f1, found.best_threshold] == pytest.approx([0.75, 0.6])
    assert found.recall_at_precision == 0.5
    # Five bins of one client each: gaps .1 + .2 + .7 + .4 + .3.
    assert found.calibration_error == pytest.approx(1.7 / 5)


def test_a_threshold_takes_all_who_claim_alike() -> None:
    alike = answers((0.9, True, True), (0.9, False, True))
    assert alike.metrics().best_f1 == pytest.approx(0.5)
    assert alike.metrics().recall_at_precision == 0


def test_who_got_no_answer_is_never_named() -> None:
    silent = answers((0.9, True, True), (0.0, False, True))
    assert silent.metrics().best_threshold == 0.9
    assert curve(silent).threshold.tolist() == [0.9]


def test_the_bootstrap_agrees_with_the_plain_figures() -> None:
    found, plain = bootstrap(FIVE, threshold=0.65, resamples=50), FIVE.metrics()
    assert found["top1"].value == plain.top1
    assert found["best_f1"].value == plain.best_f1
    assert found["recall_at_precision"].value == plain.recall_at_precision
    assert found["calibration_error"].value == pytest.approx(plain.calibration_error)
    assert found["precision"].value == pytest.approx(2 / 3)
    assert found["recall"].value == 0.5
    assert found["false_rate"].value == pytest.approx(1 / 5)
    assert all(each.low <= each.value <= each.high for each in found.values())


def test_the_same_seed_draws_the_same_clients() -> None:
    assert bootstrap(FIVE, 0.5, resamples=20, seed=3) == bootstrap(FIVE, 0.5, resamples=20, seed=3)
    assert bootstrap(FIVE, 0.5, resamples=20, seed=3) != bootstrap(FIVE, 0.5, resamples=20, seed=4)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Populations whose true top-1 is .8: the intervals must hold .8 nearly always and stay narrow."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        right = rng.random(200) < 0.8
        drawn = Answers(rng.random(200), right, np.ones(200, dtype=bool))
        found = bootstrap(drawn, 0.5, resamples=100)["top1"]
        held += found.low <= 0.8 <= found.high
        assert found.high - found.low < 0.2
    assert 85 <= held <= 99


def test_the_curve_falls_and_rises_as_the_threshold_sinks() -> None:
    found = curve(FIVE)
    assert found.threshold.tolist() == [0.9, 0.8, 0.7, 0.6, 0.3]
    assert found.precision.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert found.recall.tolist() == pytest.approx([0.25, 0.5, 0.5, 0.75, 0.75])
    assert found.false_rate.tolist() == pytest.approx([0, 0, 0.2, 0.2, 0.4])


def test_reliability_tells_claims_beside_what_came_true() -> None:
    low, high = reliability(answers((0.12, False, True), (0.18, True, True), (1.0, True, True)))
    assert (low.clients, low.right.value) == (2, 0.5)
    assert low.claimed == pytest.approx(0.15)
    assert (high.clients, high.claimed, high.right.value) == (1, 1.0, 1.0)


def test_weights_count_a_client_as_often_as_drawn() -> None:
    claimed, right = np.array([0.95, 0.55]), np.array([True, False])
    twice = calibration_error(np.array([0.95, 0.95, 0.55]), np.array([True, True, False]))
    assert calibration_error(claimed, right, np.array([2.0, 1.0])) == pytest.approx(twice)


def test_a_share_knows_how_sure_it_is() -> None:
    # Wilson interval of 8 of 10, from his formula: .4902 to .9433.
    found = share(8, 10)
    assert [found.low, found.high] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert (share(0, 0).low, share(0, 0).high) == (0, 1)
    assert share(10, 10).high == pytest.approx(1)


def test_nobody_asked_gives_figures_of_nobody() -> None:
    assert province_metrics(np.zeros(0), np.zeros(0, dtype=bool), 0).best_f1 == 0
    assert bootstrap(answers(), 0.5)["recall"].value == 0
    assert len(curve(answers()).threshold) == 0
    assert reliability(answers()) == ()


def test_right_for_a_client_registered_nowhere_is_a_contradiction() -> None:
    with pytest.raises(ValueError, match="registered nowhere"):
        answers((0.5, True, False))


def test_nothing_wrong_among_a_hundred_does_not_mean_never() -> None:
    flawless = answers(*[(0.9, True, True)] * 100)
    found = bootstrap(flawless, 0.5, resamples=20)
    assert found["precision"].value == 1
    assert found["precision"].low == pytest.approx(share(100, 100).low)
    assert found["false_rate"].high == pytest.approx(share(0, 100).high)


def test_the_interval_of_the_calibration_error_is_about_the_error_not_about_the_drawing() -> None:
    """Claims that come true as often as they say: drawing again alone would put the interval above the figure."""
    rng = np.random.default_rng(2)
    claimed = rng.random(2_000)
    honest = Answers(claimed, rng.random(2_000) < claimed, np.ones(2_000, dtype=bool))
    found = bootstrap(honest, 0.5, resamples=200)["calibration_error"]
    assert found.low < found.value < found.high < 0.05
