"""What is measured: the load of each scenario and the pace of the upstream."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keys
import targets

HISTORY_40K = ["--history", "70000", "--history-from", "10000", "--turn", "2000"]
HISTORY_400K = ["--history", "500000", "--history-from", "300000", "--turn", "10000"]
ALL = ("direct", "nginx", "haproxy", "open-aiops")
QUICK = 0.3
LOAD_SECONDS = 180


@dataclass(frozen=True)
class Scenario:
    name: str
    load: tuple
    seconds: float = 0
    calls: int = 0
    pace: str = "ttfb_ms=0&gap_ms=0"
    targets: tuple = ALL
    # Once after all rounds: it leaves much behind, or takes long.
    once: bool = False
    # On a new process with an empty ledger.
    fresh: bool = False
    # Takes minutes: only when it is asked for by name.
    named_only: bool = False
    # Seconds after which the load is given up.
    patience: float = LOAD_SECONDS
    # Looks at the target afterwards: (target, seed) -> more results.
    check: Callable | None = None

    def arguments(self):
        """The load generator's arguments."""
        timed = ["--seconds", str(self.seconds)] if self.seconds else []
        counted = ["--calls", str(self.calls)] if self.calls else []
        return [*self.load, *timed, *counted]

    def quick(self):
        """The same, shorter."""
        return replace(self, seconds=self.seconds * QUICK, calls=self.calls // 10)


def open_loop(rate, *more):
    return ("--mode", "open", "--rate", str(rate), "--connections", "256", *more)


def streams(count, tokens, *more):
    once = ("--mode", "once", "--connections", str(count), "--stream", "--tokens", str(tokens))
    return (*once, *more)


RELAXED = (*ALL, "open-aiops/relaxed")
BUDGETS = (*RELAXED, "open-aiops/budgets")
META = (*ALL, "open-aiops/meta")
PRODUCT = ("open-aiops",)
OPTIONS = ("direct", "open-aiops", *(f"open-aiops/{name}" for name in targets.OPTIONS))

SCENARIOS = [
    Scenario("latency_50ms", open_loop(200), 3, pace="ttfb_ms=50&gap_ms=0", targets=RELAXED),
    Scenario("latency_instant", open_loop(200), 3, targets=RELAXED),
    Scenario("small_1000", open_loop(1000), 4, targets=BUDGETS),
    Scenario("small_max", ("--mode", "closed", "--connections", "64"), 3, targets=BUDGETS),
    Scenario("history_40k", open_loop(300, *HISTORY_40K), 4, targets=META),
    Scenario("history_400k", open_loop(30, "--warmup", "1", *HISTORY_400K), 4, targets=META),
    Scenario(
        "history_400k_stream",
        open_loop(30, "--warmup", "1", "--stream", "--tokens", "32", *HISTORY_400K),
        4,
        pace="ttfb_ms=0&gap_ms=10",
    ),
    Scenario(
        "streams_256",
        streams(256, 160, "--ramp-ms", "1000", "--grace", "12"),
        pace="ttfb_ms=0&gap_ms=25",
    ),
    Scenario(
        "streams_2000",
        streams(2000, 60, "--ramp-ms", "2000", "--hold-ms", "1500", "--grace", "15"),
        pace="ttfb_ms=0&gap_ms=1000",
        targets=("nginx", "haproxy", "open-aiops"),
        once=True,
    ),
    Scenario(
        "flat_small",
        ("--mode", "closed", "--connections", "64", "--grace", "60"),
        calls=100_000,
        targets=PRODUCT,
        once=True,
        fresh=True,
    ),
    Scenario(
        "flat_history_40k",
        ("--mode", "closed", "--connections", "16", "--grace", "60", *HISTORY_40K),
        calls=20_000,
        targets=PRODUCT,
        once=True,
        fresh=True,
    ),
    Scenario("options_300", open_loop(300), 4, targets=OPTIONS, named_only=True),
    Scenario(
        "options_max",
        ("--mode", "closed", "--connections", "64"),
        3,
        targets=OPTIONS,
        named_only=True,
    ),
    Scenario(
        "keys_1m",
        # The grace of a counted load begins with it.
        ("--mode", "closed", "--connections", "64", "--grace", "1500", "--calls-per-run", "1"),
        calls=1_000_000,
        targets=("open-aiops/keys",),
        once=True,
        fresh=True,
        named_only=True,
        patience=1600,
        check=keys.find_again,
    ),
]


def named(names, quick):
    """The scenarios asked for; where none is named, all that do not have to be."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are {', '.join(known)}")
    usual = [scenario for scenario in SCENARIOS if not scenario.named_only]
    chosen = [known[name] for name in names] if names else usual
    return [scenario.quick() for scenario in chosen] if quick else chosen
