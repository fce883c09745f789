"""python3 -m unittest discover bench"""

import unittest

import report


def run(scenario, target, round_, **figures):
    return {"scenario": scenario, "target": target, "round": round_} | figures


def row(runs, what):
    targets = list(dict.fromkeys(run["target"] for run in runs))
    return next(row for row in report.rows(runs, targets) if row["what"] == what)


class Report(unittest.TestCase):
    def test_ratio_is_the_median_of_ratios_within_rounds_and_shows_their_range(self):
        runs = []
        for round_, (nginx, product) in enumerate([(10, 20), (100, 300), (1, 5)]):
            runs.append(run("small_max", "nginx", round_, cpu_us=nginx))
            runs.append(run("small_max", "open-aiops", round_, cpu_us=product))
        ratios = row(runs, "CPU per call, us")["ratios"]
        self.assertEqual(report.spread(ratios), "3.00 (2.00-5.00)")

    def test_added_latency_is_taken_against_direct_of_the_same_round(self):
        runs = []
        for round_, (direct, product) in enumerate([(1000, 1500), (9000, 9600), (2000, 2700)]):
            runs.append(run("latency_50ms", "direct", round_, latency_us={"p50": direct}))
            runs.append(run("latency_50ms", "open-aiops", round_, latency_us={"p50": product}))
        numbers = row(runs, "added p50, ms")["numbers"]
        self.assertEqual(numbers, {"direct": 2.0, "open-aiops": 0.6})

    def test_failed_run_leaves_its_cell_empty_and_is_remarked(self):
        runs = [run("small_max", "open-aiops", 0, failed="no end within 180 s")]
        self.assertIsNone(row(runs, "CPU per call, us")["numbers"]["open-aiops"])
        self.assertEqual(list(report.remarks(runs)), [
            "small_max, open-aiops, round 1: no end within 180 s"
        ])

    def test_what_a_check_found_wrong_is_remarked(self):
        fine = {"errors": {}, "ok": 5, "asked": 5, "held": None, "quiet": True}
        runs = [run("keys_1m", "open-aiops/keys", 0, **fine, found_again=99, wrong="run-1-7: ...")]
        self.assertEqual(row(runs, "early runs found again, of 100")["numbers"], {
            "open-aiops/keys": 99
        })
        self.assertEqual(list(report.remarks(runs)), [
            "keys_1m, open-aiops/keys, round 1: run-1-7: ..."
        ])

    def test_tenth_that_was_not_reached_is_empty(self):
        runs = [run("flat_small", "open-aiops", 0, tenths=[{"cpu_us_per_call": 5.0}])]
        self.assertEqual(row(runs, "CPU per call, 1st tenth, us")["numbers"]["open-aiops"], 5.0)
        self.assertIsNone(row(runs, "CPU per call, last tenth, us")["numbers"]["open-aiops"])


if __name__ == "__main__":
    unittest.main()
