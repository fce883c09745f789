#!/usr/bin/env python3
"""Runs a real Prometheus beside the proxy: the example configuration scrapes it, with its admin token,
and every query of the Grafana dashboard and of the alert rules is asked and has to be answered."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
TOKEN = "a-token-of-32-characters-or-more"
PATIENCE_SECONDS = 60
CALLS_A_ROUND = 6
# Of one action with one result: five of them are a loop.
REPEATED = 8

# In the place of Grafana's variables; the range is what the whole test takes.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "10m",
    "$job": ".*",
    "$instance": ".*",
    "$agent": ".*",
    "$model": ".*",
}

CONFIG = """
[proxy]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"
token_env = "OPEN_AIOPS_TOKEN"

[ledger]
dir = "{directory}/data"

[[upstream]]
name = "fake"
base_url = "{upstream}/v1"

[[upstream]]
name = "gone"
base_url = "http://127.0.0.1:{closed}/v1"

[[budget]]
name = "a day"
usd = 100
window = "day"

[[budget]]
name = "calls of a run"
per = ["run"]
match = {{ run = "run-*" }}
calls = 4
slow_at = 0.5
max_delay = "5ms"
"""


def main() -> None:
    binary = Path(sys.argv[1])
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxy, admin = start_proxy(stack, binary, directory)
        prometheus = start_prometheus(stack, directory, admin)
        call_all(proxy, "one")
        wait_for("the calls of the first round", lambda: scraped(prometheus, admin))
        # What changes between two scrapes has a rate.
        call_all(proxy, "two")
        wait_for("the calls of the second round", lambda: scraped(prometheus, admin))
        check_lint(admin)
        check_sums(prometheus, admin)
        check_bound(admin)
        queries = check_dashboard(prometheus) + check_rules(prometheus)
    print(f"prometheus: ok, {queries} queries answered")


# Processes


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        yield child
    except BaseException:
        sys.stderr.write(f"--- the end of {log.name}\n{log.read_text()[-4000:]}\n")
        raise
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := probe():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"waited in vain for {what}")


def printed(log: Path, pattern: str) -> str:
    def probe() -> str | None:
        found = re.search(pattern, log.read_text(), re.MULTILINE)
        return found.group(1) if found else None

    return wait_for(f"{pattern} in {log.name}", probe)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start_proxy(stack: ExitStack, binary: Path, directory: Path) -> tuple[str, str]:
    log = directory / "upstream.log"
    upstream = [sys.executable, str(REPO / "tests" / "clients" / "upstream.py")]
    stack.enter_context(process(upstream, log))
    upstream_url = f"http://127.0.0.1:{printed(log, r'^([0-9]+)$')}"
    config = directory / "config.toml"
    config.write_text(
        CONFIG.format(directory=directory, upstream=upstream_url, closed=free_port())
    )
    log = directory / "proxy.log"
    serve = [str(binary), "serve", "--config", str(config)]
    stack.enter_context(process(serve, log, OPEN_AIOPS_TOKEN=TOKEN))
    return tuple(printed(log, rf"^{it} listening on (\S+)$") for it in ("proxy", "admin"))


def start_prometheus(stack: ExitStack, directory: Path, admin: str) -> str:
    """By the example of the repository: only places and times are others."""
    token = directory / "token"
    token.write_text(TOKEN)
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for ours, here in [
        ("/etc/prometheus/open-aiops.token", str(token)),
        ("alerts.yml", str(DEPLOY / "prometheus" / "alerts.yml")),
        ("127.0.0.1:8788", admin.removeprefix("http://")),
        ("_interval: 15s", "_interval: 1s"),
    ]:
        if ours not in text:
            raise SystemExit(f"prometheus.yml does not say {ours}")
        text = text.replace(ours, here)
    config = directory / "prometheus.yml"
    config.write_text(text)
    subprocess.run(["promtool", "check", "config", config], check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    stack.enter_context(process(command, directory / "prometheus.log"))
    url = f"http://127.0.0.1:{port}"
    # It answers with 503 until it has read its storage.
    wait_for("Prometheus to be ready", lambda: get(f"{url}/-/ready"))
    wait_for("Prometheus to scrape", lambda: value(url, 'up{job="open-aiops"}') == 1)
    return url


# Calls


def call_all(proxy: str, name: str) -> None:
    for number in range(CALLS_A_ROUND):
        call(proxy, {"x-aiops-run": f"run-{name}-{number}", "x-aiops-metric-score": "0.5"}, number)
        call(proxy, {"x-aiops-run": f"run-{name}-{number}", "x-aiops-agent": "planner"}, number, True)
        # The fifth call of one run is one too many.
        call(proxy, {"x-aiops-run": f"run-{name}"}, number)
    messages = [{"role": "user", "content": f"find it, {name}"}]
    for number in range(REPEATED):
        post(proxy, {"x-aiops-run": f"loop-{name}"}, {"messages": messages})
        messages += action(f"call_{name}_{number}")
    call(proxy, {"x-aiops-upstream": "gone"}, 0)
    call(proxy, {"x-aiops-upstream": "nobody"}, 0)


def call(proxy: str, headers: dict[str, str], number: int, stream: bool = False) -> None:
    asked = {"role": "user", "content": f"question {number} of {headers}"}
    post(proxy, headers, {"messages": [asked], "stream": stream})


def action(call_id: str) -> list[Any]:
    function = {"name": "grep", "arguments": '{"pattern": "fn parse", "path": "src"}'}
    asked = [{"id": call_id, "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": asked},
        {"role": "tool", "tool_call_id": call_id, "content": "error: no such file"},
    ]


def post(proxy: str, headers: dict[str, str], body: dict[str, Any]) -> None:
    body = {"model": "gpt-4o-mini", **body}
    told = {"content-type": "application/json", "authorization": "Bearer sk-test", **headers}
    request = urllib.request.Request(
        f"{proxy}/v1/chat/completions", json.dumps(body).encode(), told
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
    except urllib.error.HTTPError as refusal:
        refusal.read()


# Questions


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return answer.read()


def of_admin(admin: str, path: str) -> Any:
    return json.loads(get(f"{admin}{path}", Authorization=f"Bearer {TOKEN}"))


def query(prometheus: str, expression: str) -> list[Any]:
    target = urllib.parse.urlencode({"query": expression})
    try:
        answer = json.loads(get(f"{prometheus}/api/v1/query?{target}"))
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{expression}\n{error.read().decode()}") from error
    if answer["status"] != "success" or answer.get("warnings"):
        raise SystemExit(f"{expression}\n{answer}")
    return answer["data"]["result"]


def value(prometheus: str, expression: str) -> float | None:
    found = query(prometheus, expression)
    return float(found[0]["value"][1]) if len(found) == 1 else None


def ended(admin: str) -> tuple[int, int]:
    """How many calls the ledger has, and what they cost."""
    agents = of_admin(admin, "/api/v1/agents")["agents"]
    calls = sum(agent["calls"] for agent in agents)
    return calls, sum(agent["cost_nano_usd"] for agent in agents)


def counted(prometheus: str) -> tuple[int, int]:
    calls = value(prometheus, "sum(open_aiops_calls_total)") or 0
    cost = value(prometheus, "sum(open_aiops_cost_nano_usd_total)") or 0
    return int(calls), int(cost)


def scraped(prometheus: str, admin: str) -> bool:
    calls, _ = ended(admin)
    return calls > 0 and counted(prometheus)[0] == calls


# Checks


def check_lint(admin: str) -> None:
    """promtool reads the older text format, which is what it gets from us without asking for another."""
    page = get(f"{admin}/metrics", Authorization=f"Bearer {TOKEN}")
    found = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    told = (found.stdout + found.stderr).decode().strip()
    if found.returncode or told:
        raise SystemExit(f"promtool check metrics: {told}")


def check_sums(prometheus: str, admin: str) -> None:
    expected, found = ended(admin), counted(prometheus)
    if expected != found or not expected[1]:
        raise SystemExit(f"calls and cost are {expected} in the ledger, {found} in Prometheus")
    refused = value(prometheus, 'open_aiops_budget_refusals_total{budget="calls of a run"}')
    if refused != 2 * (CALLS_A_ROUND - 4):
        raise SystemExit(f"{refused} refusals by the budget of calls")
    if value(prometheus, "sum(open_aiops_loops_stopped_total)") != 2:
        raise SystemExit("not the two loops were stopped")
    used = value(prometheus, 'open_aiops_budget_used_ratio{budget="calls of a run"}')
    if used != 1:
        raise SystemExit(f"the fullest run used {used} of its calls")
    left = value(prometheus, 'open_aiops_budget_left{budget="a day",measure="usd"}')
    if left is None or abs(left - (100 - expected[1] / 1e9)) > 1e-6:
        raise SystemExit(f"{left} USD are left, of 100 and {expected[1]} nano-USD spent")
    print(f"{expected[0]} calls and {expected[1]} nano-USD, in the ledger as in Prometheus")


def check_bound(admin: str) -> None:
    """Nobody is told anything without the token."""
    try:
        get(f"{admin}/metrics")
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return
        raise
    raise SystemExit("metrics are told without the token")


def check_dashboard(prometheus: str) -> int:
    dashboard = json.loads((DEPLOY / "grafana" / "open-aiops.json").read_text())
    expressions = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    empty = []
    for title, expression in expressions:
        for variable, here in VARIABLES.items():
            expression = expression.replace(variable, here)
        if "$" in expression:
            raise SystemExit(f"{title}: an unknown variable in {expression}")
        if not query(prometheus, expression) and not is_of_absent(expression):
            empty.append(f"{title}: {expression}")
    if empty:
        raise SystemExit("no data for\n" + "\n".join(empty))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            check_variable(prometheus, variable["definition"])
    return len(expressions)


def is_of_absent(expression: str) -> bool:
    """Neither databases nor a collector nor Redis are there: others test those."""
    return any(f"open_aiops_{part}_" in expression for part in ("sink", "otel", "shared"))


def check_variable(prometheus: str, definition: str) -> None:
    series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", definition).groups()
    for variable, here in VARIABLES.items():
        series = series.replace(variable, here)
    if not query(prometheus, f"count by ({label}) ({series})"):
        raise SystemExit(f"no values for {definition}")


def check_rules(prometheus: str) -> int:
    answer = json.loads(get(f"{prometheus}/api/v1/rules"))
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            raise SystemExit(f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
        query(prometheus, rule["query"])
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    if "OpenAiopsBudgetSpent" not in firing or "OpenAiopsDown" in firing:
        raise SystemExit(f"firing: {sorted(firing)}")
    return len(rules)


if __name__ == "__main__":
    main()
