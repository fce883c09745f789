"""Medians over rounds, as one table."""

import operator
from statistics import median

# scenario, what, path in a run's result, factor, relation to direct, digits
ROWS = [
    ("latency_50ms", "added p50, ms", "latency_us.p50", 1e-3, "added", 3),
    ("latency_50ms", "added p99, ms", "latency_us.p99", 1e-3, "added", 3),
    ("latency_instant", "added p50, ms", "latency_us.p50", 1e-3, "added", 3),
    ("latency_instant", "added p99, ms", "latency_us.p99", 1e-3, "added", 3),
    ("small_1000", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("small_max", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("small_max", "calls/s", "calls_per_second", 1, "plain", 0),
    ("history_40k", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("history_40k", "added p50, ms", "latency_us.p50", 1e-3, "added", 3),
    ("history_400k", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("history_400k", "added p50, ms", "latency_us.p50", 1e-3, "added", 3),
    ("history_400k_stream", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("history_400k_stream", "added to first chunk p50, ms", "first_chunk_us.p50", 1e-3, "added", 3),
    ("streams_256", "CPU per chunk, us", "cpu_us_per_chunk", 1, "plain", 2),
    ("streams_256", "added chunk delay p50, ms", "chunk_delay_us.p50", 1e-3, "added", 3),
    ("streams_256", "added chunk delay p99, ms", "chunk_delay_us.p99", 1e-3, "added", 3),
    ("streams_2000", "memory per stream, KiB", "kib_per_stream", 1, "plain", 1),
    ("streams_2000", "RSS, MiB", "held.rss_kib", 1 / 1024, "plain", 1),
    ("flat_small", "CPU per call, 1st tenth, us", "tenths.0.cpu_us_per_call", 1, "plain", 1),
    ("flat_small", "CPU per call, last tenth, us", "tenths.9.cpu_us_per_call", 1, "plain", 1),
    ("flat_small", "RSS after the first tenth, MiB", "tenths.0.rss_kib", 1 / 1024, "plain", 1),
    ("flat_small", "RSS at the end, MiB", "tenths.9.rss_kib", 1 / 1024, "plain", 1),
    ("flat_history_40k", "CPU per call, 1st tenth, us", "tenths.0.cpu_us_per_call", 1, "plain", 1),
    ("flat_history_40k", "CPU per call, last tenth, us", "tenths.9.cpu_us_per_call", 1, "plain", 1),
    ("flat_history_40k", "RSS after the first tenth, MiB", "tenths.0.rss_kib", 1 / 1024, "plain", 1),
    ("flat_history_40k", "RSS at the end, MiB", "tenths.9.rss_kib", 1 / 1024, "plain", 1),
    ("options_300", "added p50, ms", "latency_us.p50", 1e-3, "added", 3),
    ("options_300", "added p99, ms", "latency_us.p99", 1e-3, "added", 3),
    ("options_300", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("options_max", "CPU per call, us", "cpu_us", 1, "plain", 1),
    ("options_max", "calls/s", "calls_per_second", 1, "plain", 0),
    ("keys_1m", "CPU per call, 1st tenth, us", "tenths.0.cpu_us_per_call", 1, "plain", 1),
    ("keys_1m", "CPU per call, last tenth, us", "tenths.9.cpu_us_per_call", 1, "plain", 1),
    ("keys_1m", "RSS after the first tenth, MiB", "tenths.0.rss_kib", 1 / 1024, "plain", 1),
    ("keys_1m", "RSS at the end, MiB", "tenths.9.rss_kib", 1 / 1024, "plain", 1),
    ("keys_1m", "RSS at most, MiB", "rss_peak_kib", 1 / 1024, "plain", 1),
    ("keys_1m", "early runs found again, of 100", "found_again", 1, "plain", 0),
]


def value(result, path):
    """The number at a dotted path, None where it is missing."""
    for key in path.split("."):
        if isinstance(result, list):
            result = result[int(key)] if int(key) < len(result) else None
        else:
            result = result.get(key) if isinstance(result, dict) else None
    return result


class Results:
    """All runs, by scenario, target and round."""

    def __init__(self, runs):
        self.by_key = {(run["scenario"], run["target"], run["round"]): run for run in runs}

    def each_round(self, scenario, target, path, combine=None, other=None):
        """A number a round, each combined with another target's of the same round."""
        found = []
        for (of_scenario, of_target, round_), run in self.by_key.items():
            if (of_scenario, of_target) != (scenario, target):
                continue
            number = value(run, path)
            if combine and number is not None:
                beside = value(self.by_key.get((scenario, other, round_), {}), path)
                number = combine(number, beside) if beside else None
            if number is not None:
                found.append(number)
        return found


def rows(runs, targets):
    """Rows of the table as data: one number a target, and the ratios to nginx, one a round."""
    results = Results(runs)
    measured = {run["scenario"] for run in runs}
    for scenario, what, path, factor, relation, digits in ROWS:
        if scenario not in measured:
            continue
        numbers = {}
        for target in targets:
            subtract = relation == "added" and target != "direct"
            combine = operator.sub if subtract else None
            found = results.each_round(scenario, target, path, combine, "direct")
            numbers[target] = round(median(found) * factor, digits) if found else None
        ratios = []
        if relation == "plain":
            ratios = results.each_round(scenario, "open-aiops", path, operator.truediv, "nginx")
        yield {
            "scenario": scenario,
            "what": what,
            "digits": digits,
            "numbers": numbers,
            "ratios": sorted(round(ratio, 2) for ratio in ratios),
        }


def table(runs, targets):
    head = ["scenario", "measure", *targets, "open-aiops / nginx"]
    lines = [head, ["---", "---", *["---:"] * (len(targets) + 1)]]
    for row in rows(runs, targets):
        shown = [cell(number, row["digits"]) for number in row["numbers"].values()]
        lines.append([row["scenario"], row["what"], *shown, spread(row["ratios"])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(number, digits):
    return "" if number is None else f"{number:,.{digits}f}"


def spread(ratios):
    """The median, and the range it lies in where there are several."""
    if not ratios:
        return ""
    middle = f"{median(ratios):.2f}"
    return f"{middle} ({ratios[0]:.2f}-{ratios[-1]:.2f})" if len(ratios) > 1 else middle


def remarks(runs):
    """What a reader must know: runs that went wrong, load that was not carried."""
    for run in runs:
        where = f"{run['scenario']}, {run['target']}, round {run['round'] + 1}"
        if run.get("failed"):
            yield f"{where}: {run['failed']}"
        elif run["errors"]:
            yield f"{where}: {run['errors']} ({run['first_error']})"
        elif run["ok"] < 0.98 * run["asked"] and not run["held"]:
            yield f"{where}: {run['ok']} of {run['asked']} calls answered"
        elif run.get("wrong"):
            yield f"{where}: {run['wrong']}"
        elif not run["quiet"]:
            yield f"{where}: still busy long after the last call"
