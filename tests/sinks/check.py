"""Has real databases take what the proxy records, through outages, kills, migrations and bad rows."""

import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from compare import difference, expected_sums, number, sums
from proxy import Proxy, upstream
from services import PASSWORD, USER, CurrentClickHouse, OldClickHouse, Postgres, wait_for

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SINKS = {"pg": "PG_URL", "old": "OLD_URL", "new": "NEW_URL"}


def config(port, instance, sinks=SINKS, ledger="", ca=None, timeout="20s"):
    text = f"""
[proxy]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[ledger]
dir = "data"
{ledger}

[[upstream]]
name = "scripted"
base_url = "http://127.0.0.1:{port}/v1"
"""
    for name in sinks:
        text += f'\n[[sink]]\nname = "{name}"\nurl_env = "{SINKS[name]}"\ninstance = "{instance}"\n'
        text += f'interval = "200ms"\ntimeout = "{timeout}"\n'
        text += f'extra_ca_file = "{ca}"\n' if name == "pg" and ca else ""
    return text


def environment(stores, password=None):
    urls = {SINKS[name]: store.url(*([password] if password else [])) for name, store in stores.items()}
    return {**os.environ, "RUST_BACKTRACE": "1", **urls}


def say(text):
    print(text, flush=True)


def ended(exported):
    return {**exported, "calls": [call for call in exported["calls"] if call["outcome"] != "open"]}


def as_stored(store, exported):
    """PostgreSQL has no NUL: where one was said it has U+FFFD."""
    if store.kind != "postgres":
        return exported
    metrics = [{**row, "note": row["note"] and row["note"].replace("\0", "\ufffd")} for row in exported["metrics"]]
    return {**exported, "metrics": metrics}


def settle(proxy, stores, instance, within=90):
    """Waits until each database has what the ledger exports, and nothing else."""
    deadline = time.monotonic() + within
    while True:
        exported = ended(proxy.export())
        found = [
            difference(store, table, instance, rows)
            for store in stores.values()
            for table, rows in as_stored(store, exported).items()
        ]
        found = [it for it in found if it]
        if not found:
            break
        assert time.monotonic() < deadline, f"not within {within} s: {found}\n{proxy.sinks()}"
        time.sleep(0.3)
    for store in stores.values():
        assert sums(store, instance) == expected_sums(exported["calls"]), store.kind
    return exported


def check_older_tables(proxy, stores):
    """The printed statements make the tables; some columns are taken away, as if an earlier version had made them."""
    printed = dict(re.findall(r"-- sink (\w+)\n(.*?)(?=-- sink |\Z)", proxy.cli("sinks", "--sql"), re.S))
    lacking = {"calls": ["user", "cost_usd", "decision"], "decisions": ["loop_agents"], "metrics": ["note"]}
    stores["pg"].run(printed["pg"])
    for statement in filter(str.strip, printed["new"].split(";\n")):
        stores["new"].run(statement)
    for table, columns in lacking.items():
        for column in columns:
            stores["pg"].run(f'ALTER TABLE open_aiops.{table} DROP COLUMN "{column}"')
            stores["new"].run(f"ALTER TABLE open_aiops.{table} DROP COLUMN `{column}`")
    stores["pg"].run("ALTER TABLE open_aiops.calls ADD COLUMN of_their_own text DEFAULT 'x'")


def check_wrong_password(proxy, stores):
    proxy.start(environment(stores, "not-the-password"))
    failing = lambda: all(it["state"] == "failing" for it in proxy.sinks().values()) and proxy.sinks()
    sinks = wait_for("all sinks fail", failing)
    assert "password authentication failed" in sinks["pg"]["error"], sinks["pg"]
    assert "Wrong password" in sinks["old"]["error"], sinks["old"]
    assert "Authentication failed" in sinks["new"]["error"], sinks["new"]
    told = proxy.log.read_text() + json.dumps(sinks) + proxy.cli("check-config")
    assert "not-the-password" not in told, "a password was shown"
    assert told.count("sink pg fails, it is tried again") == 1, told
    proxy.stop()
    say("a wrong password is told and not shown")


def measure(proxy, note, **of):
    order = json.dumps({"name": "score", "value": 0.30000000000000004, "who": "judge", "note": note, **of}).encode()
    request = urllib.request.Request(f"{proxy.admin}/api/v1/metrics", order, method="POST")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def check_live(proxy, stores, instance):
    before = len(proxy.export()["calls"])
    odd = "O'Brien \"x\" \\N \\t ;-- $1 %s {}"
    proxy.calls(40, user=odd, tag_team="a'b\\c\"d", metric_score="0.1", variant="terse")
    measure(proxy, "nul \0, tab \t, line \n, quote ' and \\ and \U0001f600", run="run-1")
    measure(proxy, "said twice", run="run-2", key="k")
    measure(proxy, "said again", run="run-2", key="k")
    exported = settle(proxy, stores, instance)
    assert len(exported["calls"]) == before + 40
    users = {call["user"] for call in exported["calls"]}
    assert odd in users, users
    say(f"{before} calls of the demo and 40 live ones are there, with odd texts")


def check_outage(proxy, stores, instance, hard):
    for store in stores.values():
        store.stop(hard)
    started = time.monotonic()
    proxy.calls(60)
    say(f"60 calls with all databases away took {time.monotonic() - started:.1f} s")
    wait_for("all are known to fail", lambda: all(it["failures"] >= 3 for it in proxy.sinks().values()))
    assert all(it["lag_bytes"] > 0 for it in proxy.sinks().values()), proxy.sinks()
    alerts = json.loads(proxy.cli("alerts", "--open", "--json"))["alerts"]
    assert sum(it["rule"] == "sink_failing" for it in alerts) == len(stores), alerts
    for store in stores.values():
        store.start()
    settle(proxy, stores, instance)
    wait_for("all work", lambda: all(it["state"] == "working" for it in proxy.sinks().values()))
    whats = [row["what"] for row in proxy.export()["decisions"]]
    assert whats.count("sink_recovered") >= len(stores), whats
    say("what came while databases were away is there")


def write_anew(stores, instance):
    """All that the ledger has, where that can be said."""
    stores["pg"].run(f"DELETE FROM open_aiops.position WHERE instance = '{instance}'")
    stores["new"].run(f"ALTER TABLE open_aiops.position DELETE WHERE instance = '{instance}'")


def check_kills(proxy, stores, instance):
    """Kills the proxy while a backlog is written, over and over; also lets it write everything anew."""
    for store in stores.values():
        store.stop()
    proxy.calls(2500)
    proxy.kill()
    for store in stores.values():
        store.start()
    write_anew(stores, instance)
    seed = random.randrange(1 << 32)
    say(f"killed at moments by seed {seed}")
    moments = random.Random(seed)
    for _ in range(8):
        proxy.start()
        time.sleep(moments.uniform(0.05, 0.9))
        proxy.kill()
    proxy.start()
    load = threading.Thread(target=proxy.calls_until_killed, args=(400,))
    load.start()
    time.sleep(0.5)
    proxy.kill()
    load.join()
    proxy.start()
    exported = settle(proxy, stores, instance)
    for store in stores.values():
        doubles = f"SELECT call_id FROM {store.table('calls')} GROUP BY call_id HAVING count(*) > 1"
        assert store.rows(doubles) == [], store.kind
    say(f"after ten kills all {len(exported['calls'])} calls are there, none twice")


def check_bad_row(proxy, stores, instance):
    """Databases that do not take one row get the others. The old ClickHouse knows no constraints."""
    able = {name: stores[name] for name in ("pg", "new")}
    add = "ALTER TABLE open_aiops.calls ADD CONSTRAINT c CHECK "
    stores["pg"].run(add + "(agent_name <> 'forbidden') NOT VALID")
    stores["new"].run(add + "agent_name != 'forbidden'")
    for store in able.values():
        store.stop()
    proxy.calls(20)
    proxy.call(0, agent="forbidden", run="run-1")
    proxy.calls(20)
    for store in able.values():
        store.start()
    wait_for("one row is left out", lambda: all(proxy.sinks()[name]["refused_rows"] == 1 for name in able))
    exported = ended(proxy.export())
    exported["calls"] = [call for call in exported["calls"] if call["agent_name"] != "forbidden"]
    for store in able.values():
        wait_for("the others are there", lambda: not difference(store, "calls", instance, exported["calls"]))
    told = [row["details"] for row in exported["decisions"] if row["what"] == "sink_incomplete"]
    for name, store in able.items():
        assert any(details.startswith(f"sink {name}: 1 row of calls") for details in told), told
        store.run("ALTER TABLE open_aiops.calls DROP CONSTRAINT c")
    proxy.stop()
    write_anew(able, instance)
    proxy.start()
    settle(proxy, stores, instance)
    say("one row that is not taken is left out and told, and comes when everything is written anew")


def check_defaults(binary, home, port, store):
    """A database of this machine whose certificate nobody can check, behind a host that says nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{store.port}"
        env = {**os.environ, "PG_URL": f"postgres://{USER}:{PASSWORD}@{hosts}/postgres"}
        third = Proxy(binary, home / "third", config(port, "third", ["pg"], timeout="2s"), env)
        third.calls(10)
        settle(third, {"pg": store}, "third")
        third.stop()
    say("a host that says nothing is passed by, and a database of this machine needs no trusted certificate")


def check_two_instances(binary, home, port, stores, ca, first):
    """Another ledger writes to the same tables; its retention is faster than an outage of its database."""
    short = 'segment_size = "64 KiB"\nkeep_size = "128 KiB"'
    second = Proxy(binary, home / "second", config(port, "second", SINKS, short, ca), environment(stores))
    second.calls(10)
    settle(second, stores, "second")
    settle(first, stores, "first")
    say("two instances share the tables")
    stores["pg"].stop()
    for number in range(40):
        second.calls(20)
        gone = [row["what"] for row in second.export()["decisions"]].count("segments_retired")
        if gone > 3:
            break
    stores["pg"].start()
    wait_for("the gap is told", lambda: second.sinks()["pg"]["gaps"] > 0)
    wait_for("it goes on", lambda: second.sinks()["pg"]["state"] == "working")
    assert any(row["what"] == "sink_incomplete" for row in second.export()["decisions"])
    metrics = urllib.request.urlopen(f"{second.admin}/metrics", timeout=30).read().decode()
    assert re.search(r'open_aiops_sink_gaps_total\{sink="pg"\} [1-9]', metrics), metrics
    second.stop()
    say("what retention removed before it was written is told")


def measure_elsewhere(store):
    """Another instance was told something of a call of a user. Gives the call."""
    [row] = store.rows("SELECT call_id FROM open_aiops.calls WHERE cost_usd > 0 LIMIT 1")
    call = row["call_id"]
    store.run(f"""UPDATE open_aiops.calls SET "user" = 'alice' WHERE call_id = '{call}'""")
    store.run(
        "INSERT INTO open_aiops.metrics (instance, id, measured_at, call_id, name, value) "
        f"VALUES ('elsewhere', 'x', now(), '{call}', 'elsewhere', 1)"
    )
    return call


def check_queries(stores):
    call = measure_elsewhere(stores["pg"])
    text = (ROOT / "docs" / "sinks.md").read_text()
    blocks = re.findall(r"```sql\n-- (PostgreSQL|ClickHouse): ([^\n]+)\n(.*?);?\n```", text, re.S)
    names = [{name for kind, name, _ in blocks if kind == wanted} for wanted in ("PostgreSQL", "ClickHouse")]
    assert names[0] == names[1] and len(names[0]) > 5, names
    for kind, name, query in blocks:
        for store in stores.values():
            if (kind == "PostgreSQL") == (store.kind == "postgres"):
                found = store.rows(query)
                assert found, f"{store.kind}: {name} finds nothing"
                if (store.kind, name) == ("postgres", "score by variant"):
                    [elsewhere] = [row for row in found if row["name"] == "elsewhere"]
                    assert elsewhere["usd"] is not None, "what it cost, by the row of another instance"
    deletions = re.search(r"```sql\n(-- PostgreSQL\nDELETE.*?)```", text, re.S).group(1)
    for_postgres, for_clickhouse = deletions.split("-- ClickHouse\n")
    stores["pg"].run(for_postgres)
    left = stores["pg"].rows(f"SELECT id FROM open_aiops.metrics WHERE call_id = '{call}'")
    assert not left, f"said of a call of alice: {left}"
    for statement in filter(str.strip, for_clickhouse.split(";\n")):
        stores["new"].run(statement)
    say(f"all {len(blocks)} queries of the documentation run and find something")


def check_newer_tables(proxy, stores):
    stores["pg"].run("INSERT INTO open_aiops.schema_version (version) VALUES (99)")
    proxy.stop()
    proxy.start()
    refused = lambda: "made by a newer open-aiops" in (proxy.sinks()["pg"]["error"] or "")
    wait_for("tables of a newer version are refused", refused)
    assert "no server runs" in "".join(stopped(proxy)), "sinks without a server"
    say("tables of a newer version are left alone")


def stopped(proxy):
    proxy.stop()
    return proxy.cli("sinks", ok=False)


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    home = pathlib.Path(tempfile.mkdtemp(prefix="open-aiops-sinks-"))
    os.chmod(home, 0o755)
    stores = {}
    proxy = None
    try:
        for name, kind in (("pg", Postgres), ("old", OldClickHouse), ("new", CurrentClickHouse)):
            stores[name] = kind(home / name)
        port, ca = upstream(), stores["pg"].certificate
        first = home / "first"
        first.mkdir()
        demo = [binary, "demo", "--fast", "--once", "--dir", first / "data"]
        subprocess.run(demo, check=True, cwd=first, stdout=subprocess.DEVNULL)
        proxy = Proxy(binary, first, config(port, "first", {}), environment(stores))
        proxy.stop()
        proxy.configure(config(port, "first", SINKS, ca=ca))
        check_older_tables(proxy, stores)
        check_wrong_password(proxy, stores)
        proxy.start(environment(stores))
        settle(proxy, stores, "first")
        check_live(proxy, stores, "first")
        check_outage(proxy, stores, "first", hard=False)
        check_kills(proxy, stores, "first")
        check_outage(proxy, stores, "first", hard=True)
        check_bad_row(proxy, stores, "first")
        check_defaults(binary, home, port, stores["pg"])
        check_two_instances(binary, home, port, stores, ca, proxy)
        check_queries(stores)
        check_newer_tables(proxy, stores)
        proxy = None
    except BaseException:
        logs = [path for path in home.glob("*/log") if path.is_file()]
        for log in logs:
            tail = log.read_text(errors="replace").splitlines()[-30:]
            print(f"== {log}\n" + "\n".join(tail), file=sys.stderr)
        raise
    finally:
        if proxy and proxy.process.poll() is None:
            proxy.kill()
        for store in stores.values():
            swallow_all(store.stop)
        shutil.rmtree(home, ignore_errors=True)
    say("every sink has what the ledger has")


def swallow_all(stop):
    try:
        stop(hard=True)
    except (OSError, subprocess.CalledProcessError):
        pass


main()
