"""Three instances on one Redis (or Valkey) under load: one is killed, Redis is restarted with and
without its data, and no budget is passed, no hold lost, no record lost.

    python3 tests/shared/run.py BINARY [SERVER]

Starts everything on free ports of the loopback, in a directory of its own, and ends only that.
"""

import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

LIMIT = 60_000
CONCURRENT = 9
LEASE_S = 3
CONFIG = """
[proxy]
listen = "127.0.0.1:{proxy}"
[admin]
listen = "127.0.0.1:{admin}"
[ledger]
dir = "{dir}"
[[upstream]]
name = "fake"
base_url = "http://127.0.0.1:{upstream}/v1"
[shared]
url = "redis://127.0.0.1:{redis}/0"
secret_env = "OPEN_AIOPS_SHARED_SECRET"
instance = "{name}"
lease = "{lease}s"
timeout = "250ms"
on_failure = "{on_failure}"
[[budget]]
name = "all"
tokens = {limit}
concurrent = {concurrent}
[[budget]]
name = "each run"
per = ["run"]
calls = 100_000
"""


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def until(what, check, limit=30):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"FAILED: {what} did not happen within {limit} s")


def check(what, is_so):
    print(("ok    " if is_so else "FAILED") + " " + what, flush=True)
    if not is_so:
        raise SystemExit(1)


class Upstream(http.server.ThreadingHTTPServer):
    """Answers as an endpoint would and remembers what it was made to do."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.lock = threading.Lock()
        self.tokens = self.running = self.most_running = self.calls = 0


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        output = min(body["max_tokens"], random.randint(5, 120))
        up = self.server
        with up.lock:
            up.tokens += 10 + output
            up.calls += 1
            up.running += 1
            up.most_running = max(up.most_running, up.running)
        time.sleep(0.02)
        answer = json.dumps({
            "id": "x", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": "done"}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": output, "total_tokens": 10 + output},
        }).encode()
        with up.lock:
            up.running -= 1
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # its client was killed

    def log_message(self, *_):
        pass


class Redis:
    def __init__(self, program, home):
        self.program, self.home, self.port = program, home, free_port()
        self.home.mkdir()
        self.start()

    def start(self):
        # Everything that was answered is on disk, so that a restart with data has all of it.
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                     "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen([self.program, *arguments], cwd=self.home,
                                        stdout=subprocess.DEVNULL)
        until("Redis listens", lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, empty):
        self.kill()
        if empty:
            shutil.rmtree(self.home)
            self.home.mkdir()
        time.sleep(0.5)
        self.start()


class Instance:
    def __init__(self, binary, home, name, redis, upstream, on_failure):
        self.binary, self.name = binary, name
        self.proxy, self.admin = free_port(), free_port()
        self.file = home / f"{name}.toml"
        self.file.write_text(CONFIG.format(
            proxy=self.proxy, admin=self.admin, dir=home / name, upstream=upstream, redis=redis,
            name=name, lease=LEASE_S, on_failure=on_failure, limit=LIMIT, concurrent=CONCURRENT))
        self.start()

    def start(self):
        env = {**os.environ, "OPEN_AIOPS_SHARED_SECRET": "a secret of this test alone"}
        log = open(self.file.with_suffix(".log"), "a")
        self.process = subprocess.Popen([self.binary, "--config", str(self.file)], env=env,
                                        stdout=log, stderr=log)
        until(f"{self.name} listens", lambda: self.get("/healthz") is not None)

    def ask(self, port, method, path, body=None, headers=None, timeout=40):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            headers = {"content-type": "application/json", **(headers or {})}
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.ask(self.admin, "GET", path)
        return body if status == 200 else None

    def call(self, run, most=100):
        body = {"model": "gpt-4o-mini", "max_tokens": most,
                "messages": [{"role": "user", "content": f"hi {random.random()}"}]}
        return self.ask(self.proxy, "POST", "/v1/chat/completions", body, {"x-aiops-run": run})

    def account(self):
        budgets = json.loads(self.get("/api/v1/budgets"))["budgets"]
        budget = next(it for it in budgets if it["name"] == "all")
        account = budget["accounts"][0]
        tokens = next(it for it in account["measures"] if it["measure"] == "tokens")
        return tokens["used"], tokens["held"], account["running"]

    def living(self):
        return json.loads(self.get("/api/v1/instances"))["living"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Load:
    """Calls from many clients; remembers what was answered, and by whom."""

    def __init__(self, fleet, clients):
        self.fleet, self.answered, self.statuses = fleet, [], {}
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, n):
        while not self.ended.is_set():
            instance = random.choice(self.fleet)
            try:
                status, headers, _ = instance.call(f"run-{n}", random.choice([50, 100, 400]))
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if status == 200:
                    self.answered.append((instance, headers["x-aiops-call"]))
            if status != 200:
                time.sleep(0.05)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def rehearse(binary, program, on_failure):
    print(f"-- {Path(program).name}, on_failure = {on_failure}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="open-aiops-shared-"))
    upstream = Upstream()
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    redis, fleet = Redis(program, home / "redis"), []
    try:
        for name in ("a", "b", "c"):
            fleet.append(Instance(binary, home, name, redis.port, upstream.server_address[1], on_failure))
        until("all three know each other", lambda: all(it.living() == 3 for it in fleet))
        faults(fleet, redis, upstream, on_failure)
        stops(fleet)
    finally:
        for instance in fleet:
            instance.process.kill()
            instance.process.wait()
        redis.kill()
        upstream.shutdown()
        shutil.rmtree(home)


def faults(fleet, redis, upstream, on_failure):
    load = Load(fleet, 24)
    until("a fifth is used", lambda: upstream.tokens > LIMIT // 5)
    fleet[2].process.send_signal(signal.SIGKILL)
    fleet[2].process.wait()
    before = upstream.calls
    until("calls of the dead instance run no more", lambda: fleet[0].account()[2] <= CONCURRENT
          and fleet[0].living() == 2, LEASE_S * 3 + 5)
    until("the others go on", lambda: upstream.calls > before + 50)
    redis.restart(empty=True)
    before = upstream.calls
    until("calls go on after Redis lost everything", lambda: upstream.calls > before + 20)
    redis.restart(empty=False)
    before = upstream.calls
    until("calls go on after Redis was restarted", lambda: upstream.calls > before + 20)
    fleet[2].start()
    until("the dead one is back", lambda: all(it.living() == 3 for it in fleet))
    until("the budget is spent", lambda: load.statuses.get(429, 0) > 200, 120)
    load.end()
    print(f"      {upstream.calls} calls, {upstream.tokens} of {LIMIT} tokens, answers {load.statuses}")
    check(f"the upstream made no more than the budget: {upstream.tokens} of {LIMIT}",
          upstream.tokens <= LIMIT)
    # A share of what runs at once goes by what others ran when they were asked last.
    most = CONCURRENT + (CONCURRENT // 3 if on_failure == "local_share" else 0)
    check(f"nor more calls at once than may run: {upstream.most_running} of {most}",
          upstream.most_running <= most)
    until("nothing is held any more", lambda: all(it.account()[1:] == (0, 0) for it in fleet))
    used = [it.account()[0] for it in fleet]
    check(f"all say the same, and no less than was used: {used}",
          len(set(used)) == 1 and used[0] >= upstream.tokens)
    check(f"little is lost to calls nobody knows the end of: {used[0] - upstream.tokens}",
          used[0] - upstream.tokens <= LIMIT // 10)
    lost = [call for it, call in load.answered if it.get(f"/api/v1/calls/{call}") is None]
    check(f"every one of {len(load.answered)} answered calls is in a ledger", not lost)


def stops(fleet):
    raised = {"rule": "all", "key": {}, "tokens": 5000}
    status, _, body = fleet[0].ask(fleet[0].admin, "POST", "/api/v1/budgets/raise", raised)
    check(f"a raise is taken: {status} {body[:200]}", status == 200)
    until("what is raised on one holds on the others", lambda: fleet[1].call("run-1")[0] == 200)
    status, _, _ = fleet[0].ask(fleet[0].admin, "POST", "/api/v1/runs/run-1/stop", {})
    check("a run is stopped", status == 200)
    status, headers, _ = fleet[1].call("run-1")
    check(f"it is stopped on the others: {status} {headers.get('x-aiops-reason')}",
          headers.get("x-aiops-reason") == "run_stopped")
    status, _, _ = fleet[2].ask(fleet[2].admin, "POST", "/api/v1/runs/run-1/resume", {})
    check("another one lets it go on", status == 200)
    until("it goes on", lambda: fleet[0].call("run-1")[0] == 200)


def main():
    binary = str(Path(sys.argv[1]).resolve())
    programs = sys.argv[2:] or [shutil.which("redis-server"), shutil.which("valkey-server")]
    names = ["redis-server", "valkey-server"]
    for name, program in zip(names, programs):
        if program is None:
            print(f"SKIPPED: no {name}", flush=True)
    programs = [program for program in programs if program]
    if not programs:
        raise SystemExit(1 if os.environ.get("CI") else 0)
    for program in programs:
        for on_failure in ("refuse", "local_share"):
            rehearse(binary, program, on_failure)


main()
