#!/usr/bin/env python3
"""Compares the intervals of src/core/compare with scipy.stats.bootstrap on the same data.

    python3 tests/compare/scipy_golden.py --write   make tests/compare/golden.json anew
    python3 tests/compare/scipy_golden.py           check that it is what scipy says

The Rust tests read golden.json. Ends are the mean over many seeds, `noise` is how far one seed's
ends wander around it. Without scipy nothing is checked, which is said, and the exit code is 77.
"""

import json
import pathlib
import sys

try:
    import numpy as np
    import scipy
    from scipy import stats
except ImportError as error:
    print(f"SKIPPED: nothing was compared with scipy: {error}", file=sys.stderr)
    sys.exit(77)

GOLDEN = pathlib.Path(__file__).with_name("golden.json")
SEEDS = 12
RESAMPLES = 10_000


def statistic(a, b):
    a_top, a_of = np.array(a).T
    b_top, b_of = np.array(b).T

    def of(i, j, axis=-1):
        one = a_top[i].sum(axis=axis) / a_of[i].sum(axis=axis)
        other = b_top[j].sum(axis=axis) / b_of[j].sum(axis=axis)
        return other - one

    return of


def interval(a, b, seed):
    """Resamples the numbers of runs, so that top and of of a run stay together."""
    data = (np.arange(len(a)), np.arange(len(b)))
    of = statistic(a, b)
    result = stats.bootstrap(
        data,
        of,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="BCa",
        vectorized=True,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return float(of(*data)), float(low), float(high)


def cases():
    rng = np.random.default_rng(20261101)

    def means(values):
        return [[round(float(value), 6), 1.0] for value in values]

    def shares(calls, rate):
        return [[float(rng.binomial(n, rate)), float(n)] for n in calls]

    yield "normal, no difference", means(rng.normal(10, 2, 40)), means(rng.normal(10, 2, 40))
    yield "normal, shifted", means(rng.normal(10, 2, 40)), means(rng.normal(12, 2, 40))
    yield "unequal sizes", means(rng.normal(5, 1, 20)), means(rng.normal(5.5, 3, 120))
    yield "exponential", means(rng.exponential(10, 30)), means(rng.exponential(14, 30))
    yield "lognormal, heavy tail", means(rng.lognormal(0, 1.5, 50)), means(rng.lognormal(0.3, 1.5, 60))
    yield "few runs", means(rng.exponential(3, 8)), means(rng.exponential(3, 9))
    yield "success rates", means(rng.binomial(1, 0.6, 50)), means(rng.binomial(1, 0.8, 45))
    yield "rare success", means(rng.binomial(1, 0.08, 60)), means(rng.binomial(1, 0.15, 60))
    yield "counts", means(rng.poisson(7, 35)), means(rng.poisson(9, 25))
    yield "error rates, ratio of sums", shares(rng.integers(1, 30, 40), 0.1), shares(rng.integers(1, 30, 40), 0.2)
    yield "cached shares, ratio of sums", shares(rng.integers(100, 20000, 25), 0.4), shares(rng.integers(100, 20000, 30), 0.5)
    yield "nano-USD", means(np.round(rng.lognormal(16, 1, 30))), means(np.round(rng.lognormal(16.4, 1, 30)))


def measured():
    for name, a, b in cases():
        found = [interval(a, b, seed) for seed in range(SEEDS)]
        lows = np.array([low for _, low, _ in found])
        highs = np.array([high for _, _, high in found])
        yield {
            "name": name,
            "a": a,
            "b": b,
            "difference": found[0][0],
            "low": float(lows.mean()),
            "high": float(highs.mean()),
            "noise": float(max(lows.std(ddof=1), highs.std(ddof=1))),
        }


def main():
    made = list(measured())
    if "--write" in sys.argv[1:]:
        lines = ",\n".join(json.dumps(case) for case in made)
        GOLDEN.write_text(f"[\n{lines}\n]\n")
        print(f"wrote {GOLDEN.name}: {len(made)} cases")
        return
    for case, kept in zip(made, json.loads(GOLDEN.read_text()), strict=True):
        assert (case["a"], case["b"]) == (kept["a"], kept["b"]), case["name"]
        for end in ("difference", "low", "high"):
            off = abs(case[end] - kept[end])
            assert off <= 3 * kept["noise"] + 1e-9, (case["name"], end, off)
    print(f"{len(made)} cases are as scipy {scipy.__version__} says")


main()
