import math

import numpy as np
import pytest

from s3pot.metrics.intervals import (
    Interval,
    cluster_bootstrap_mean,
    cluster_bootstrap_ratio,
    paired_difference,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def crossed(seed: int, faces: int, cutouts: int, per_face: int, *, face_sd=1.0, cutout_sd=1.0, noise_sd=0.5):
    """Values of a random crossed design: every face with `per_face` different cut-outs."""
    generator = rng(seed)
    face_effect, cutout_effect = generator.normal(0, face_sd, faces), generator.normal(0, cutout_sd, cutouts)
    face = np.repeat(np.arange(faces), per_face)
    cutout = np.concatenate([generator.permutation(cutouts)[:per_face] for _ in range(faces)])
    return face_effect[face] + cutout_effect[cutout] + generator.normal(0, noise_sd, face.size), face, cutout


def test_identical_values_have_a_zero_width_interval():
    interval = cluster_bootstrap_mean([0.5] * 6, list("aabbcc"), list("xyxyxz"), rng=rng())
    assert (interval.mean, interval.low, interval.high, interval.n, interval.level) == (0.5, 0.5, 0.5, 6, 0.95)


def test_two_faces_one_way_by_hand():
    # Faces drawn aa, ab, ba, bb: means 0, 1/2, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    interval = cluster_bootstrap_mean([0.0, 0.0, 1.0, 1.0], list("aabb"), rng=rng(), replicates=4000, level=0.4)
    assert interval == Interval(mean=0.5, low=0.5, high=0.5, n=4, level=0.4)
    wide = cluster_bootstrap_mean([0.0, 0.0, 1.0, 1.0], list("aabb"), rng=rng(), replicates=4000, level=0.9)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_same_seed_same_interval_and_order_does_not_matter():
    values, face, cutout = crossed(0, 12, 9, 4)
    first = cluster_bootstrap_mean(values, face, cutout, rng=rng(3))
    shuffled = rng(1).permutation(values.size)
    again = cluster_bootstrap_mean(values[shuffled], face[shuffled], cutout[shuffled], rng=rng(3))
    assert (first.low, first.high) == pytest.approx((again.low, again.high))
    assert cluster_bootstrap_mean(values, face, cutout, rng=rng(3)) == first
    assert cluster_bootstrap_mean(values, face, cutout, rng=rng(4)) != first
    assert first.low < first.mean < first.high


def test_weighting_in_chunks_changes_nothing(monkeypatch):
    values, face, cutout = crossed(0, 12, 9, 4)
    whole = cluster_bootstrap_mean(values, face, cutout, rng=rng(), replicates=101)
    monkeypatch.setattr("s3pot.metrics.intervals._PAIRS_AT_ONCE", 10 * values.size)
    chunked = cluster_bootstrap_mean(values, face, cutout, rng=rng(), replicates=101)
    assert (whole.low, whole.high) == pytest.approx((chunked.low, chunked.high))


def obvious_one_way(values: np.ndarray, groups: np.ndarray, seed: int, replicates: int) -> tuple[float, float]:
    generator, names = rng(seed), np.unique(groups)
    means = []
    for _ in range(replicates):
        chosen = generator.choice(names, size=names.size)
        means.append(np.concatenate([values[groups == name] for name in chosen]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(
    "cutouts",
    [None, "equal", "distinct"],
)
def test_one_way_agrees_with_the_obvious_loop(cutouts):
    values, face, _ = crossed(0, 25, 30, 3)
    cutout_ids = {None: None, "equal": np.zeros(values.size), "distinct": np.arange(values.size)}[cutouts]
    interval = cluster_bootstrap_mean(values, face, cutout_ids, rng=rng(), replicates=4000)
    low, high = obvious_one_way(values, face, seed=1, replicates=4000)
    assert interval.low == pytest.approx(low, abs=0.05 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.05 * (high - low))


def test_faces_nested_in_cutouts_leave_the_cutouts():
    values = rng().normal(size=40)
    cutout = np.repeat(np.arange(20), 2)
    by_cutout = cluster_bootstrap_mean(values, np.arange(40), cutout, rng=rng())
    assert by_cutout == cluster_bootstrap_mean(values, cutout, rng=rng())
    one_face = cluster_bootstrap_mean(values, ["only"] * 40, cutout, rng=rng())
    assert one_face == by_cutout


def obvious_two_way(values: np.ndarray, face: np.ndarray, cutout: np.ndarray, seed: int, replicates: int):
    generator, faces, cutouts = rng(seed), np.unique(face), np.unique(cutout)
    means = []
    for _ in range(replicates):
        chosen_faces = generator.choice(faces, size=faces.size).tolist()
        chosen_cutouts = generator.choice(cutouts, size=cutouts.size).tolist()
        drawn = []
        for value, f, c in zip(values.tolist(), face.tolist(), cutout.tolist(), strict=True):
            drawn += [value] * (chosen_faces.count(f) * chosen_cutouts.count(c))
        means.append(np.mean(drawn))
    return np.quantile(means, [0.025, 0.975])


def test_two_way_agrees_with_the_obvious_loop():
    values, face, cutout = crossed(2, 12, 10, 5)
    interval = cluster_bootstrap_mean(values, face, cutout, rng=rng(), replicates=4000)
    low, high = obvious_two_way(values, face, cutout, seed=1, replicates=1500)
    assert interval.low == pytest.approx(low, abs=0.08 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.08 * (high - low))


def test_two_way_covers_the_truth_and_resampling_composites_does_not():
    covered_two_way = covered_naive = 0
    trials = 150
    for trial in range(trials):
        values, face, cutout = crossed(trial, 30, 25, 6)
        two_way = cluster_bootstrap_mean(values, face, cutout, rng=rng(trial), replicates=300)
        naive = cluster_bootstrap_mean(values, np.arange(values.size), rng=rng(trial), replicates=300)
        covered_two_way += not two_way.excludes(0.0)
        covered_naive += not naive.excludes(0.0)
    assert 0.88 <= covered_two_way / trials <= 1.0
    assert covered_naive / trials < 0.75


def test_one_way_covers_the_truth():
    trials = 150
    covered = 0
    for trial in range(trials):
        values, face, _ = crossed(trial, 40, 200, 3, cutout_sd=0.0)
        covered += not cluster_bootstrap_mean(values, face, rng=rng(trial), replicates=300).excludes(0.0)
    assert 0.88 <= covered / trials <= 0.99


def test_paired_difference_is_the_interval_of_the_differences():
    values, face, cutout = crossed(0, 20, 15, 4)
    better = values + 0.1
    interval = paired_difference(better, values, face, cutout, rng=rng())
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1))
    assert interval.excludes(0.0)
    # Unpaired, the same gap drowns in the spread of faces and cut-outs.
    assert not cluster_bootstrap_mean(better, face, cutout, rng=rng()).excludes(float(values.mean()))
    reverse = paired_difference(values, better, face, cutout, rng=rng())
    assert reverse.mean == pytest.approx(-0.1)
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        paired_difference([1.0, 2.0], [1.0], ["a", "b"], rng=rng())


def test_ratio_is_pooled():
    interval = cluster_bootstrap_ratio([1, 90], [10, 100], ["a", "b"], rng=rng(), level=0.99)
    assert interval.mean == 91 / 110
    assert (interval.low, interval.high) == (0.1, 0.9)
    assert math.isnan(cluster_bootstrap_ratio([0.0, 0.0], [0.0, 0.0], ["a", "b"], rng=rng()).mean)


def test_strata_weigh_the_same_whatever_their_size():
    values = np.array([1.0] * 30 + [0.0] * 10)
    kind = ["hand"] * 30 + ["cup"] * 10
    face = np.arange(40) % 8
    cutout = np.arange(40) % 7  # the same number in two kinds is two cut-outs
    interval = cluster_bootstrap_mean(values, face, cutout, rng=rng(), strata=kind)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)
    assert cluster_bootstrap_mean(values, face, cutout, rng=rng()).mean == 0.75


def test_strata_resample_cutouts_within_each():
    # Per stratum one cut-out scores 1 and one 0; faces do not matter. The mean is (i + j) / 4 with i, j in 0..2.
    values, strata, cutout, face = [], [], [], []
    for kind in "pq":
        for name, value in (("x", 0.0), ("y", 1.0)):
            for person in range(3):
                values.append(value)
                strata.append(kind)
                cutout.append(name)
                face.append(person)
    extreme = cluster_bootstrap_mean(values, face, cutout, rng=rng(), strata=strata, replicates=4000, level=0.99)
    assert (extreme.low, extreme.high) == (0.0, 1.0)  # each extreme has probability 1/16
    inner = cluster_bootstrap_mean(values, face, cutout, rng=rng(), strata=strata, replicates=4000, level=0.8)
    assert inner.low > 0.0
    assert inner.high < 1.0


def test_nothing_to_resample_leaves_the_bounds_open():
    single = cluster_bootstrap_mean([0.3], ["a"], ["x"], rng=rng())
    assert (single.mean, single.n) == (0.3, 1)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert not single.excludes(0.0)
    nothing = cluster_bootstrap_mean([], [], [], rng=rng())
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"shape \(2,\) with 1 not finite"):
        cluster_bootstrap_mean([1.0, math.nan], ["a", "b"], rng=rng())
    with pytest.raises(ValueError, match=r"face_ids must be 2 ids, none missing; got shape \(1,\)"):
        cluster_bootstrap_mean([1.0, 2.0], ["a"], rng=rng())
    with pytest.raises(ValueError, match=r"cutout_ids .* 1 missing"):
        cluster_bootstrap_mean([1.0, 2.0], ["a", "b"], ["x", None], rng=rng())
    with pytest.raises(ValueError, match=r"cutout_ids .* 1 missing"):
        cluster_bootstrap_mean([1.0, 2.0], ["a", "b"], [1.0, math.nan], rng=rng())
    with pytest.raises(ValueError, match=r"level=95"):
        cluster_bootstrap_mean([1.0], ["a"], rng=rng(), level=95.0)
    with pytest.raises(ValueError, match="denominators"):
        cluster_bootstrap_ratio([1.0, 1.0], [1.0, -1.0], ["a", "b"], rng=rng())
