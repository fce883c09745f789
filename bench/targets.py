"""The servers under test: each is configured, started on a core of its own, and can be paused."""

import http.client
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import time

import machine

START_SECONDS = 20
# All of them are about every call, and none is ever spent.
BUDGETS = "".join(
    f"""
[[budget]]
name = "budget {number}"
per = ["run", "agent"]
usd = 900_000
tokens = 900_000_000_000
window = "day"
slow_at = 0.8
"""
    for number in range(20)
)
EACH_RUN = "run"
# An account for each run and each agent, and none is ever spent.
KEYS = "".join(
    f"""
[[budget]]
name = "{name}"
per = ["{name}"]
calls = 900_000_000
tokens = 900_000_000_000
"""
    for name in (EACH_RUN, "agent")
)
# What most have: a budget for each run, and one for all that the agents of a day do.
SOME = """
[[budget]]
name = "each run"
per = ["run"]
usd = 900_000
[[budget]]
name = "the day of an agent"
per = ["agent"]
usd = 900_000
tokens = 900_000_000_000
window = "day"
[[budget]]
name = "this hour"
calls = 900_000_000
window = "1h"
"""
OTEL = """
[otel]
endpoint = "http://{collector}"
"""
POSTGRES = """
[[sink]]
name = "postgres"
url = "postgres://bench@{postgres}/postgres"
"""
CLICKHOUSE = """
[[sink]]
name = "clickhouse"
url = "http://{clickhouse}"
"""
SECRET_ENV = "BENCH_SHARED_SECRET"
SHARED = f"""
[shared]
url = "redis://{{redis}}"
secret_env = "{SECRET_ENV}"
"""
# With the services that each needs; what is in braces is the address of one.
OPTIONS = {
    "some": SOME,
    "otel": SOME + OTEL,
    "otel-content": SOME + OTEL + "content = true",
    "postgres": SOME + POSTGRES,
    "clickhouse": SOME + CLICKHOUSE,
    "shared": SOME + SHARED,
    "all": SOME + OTEL + POSTGRES + CLICKHOUSE + SHARED,
}
VARIANTS = OPTIONS | {
    "": "",
    "relaxed": 'durability = "relaxed"',
    "meta": 'record = "meta"',
    "budgets": BUDGETS,
    "keys": KEYS,
}
NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log warn;
worker_rlimit_nofile 20000; {user}
events {{ worker_connections 9000; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  upstream mock {{
    server {mock}; keepalive 2048; keepalive_requests 100000000; keepalive_timeout 300s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; client_max_body_size 8m; client_body_buffer_size 64k;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 120s;
    }}
  }}
}}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend agents
  bind 127.0.0.1:{port} backlog 4096
  default_backend mock
backend mock
  server mock {mock} pool-max-conn 4096
"""
PRODUCT = """
[proxy]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin_port}"
[ledger]
dir = "{dir}/ledger"
{ledger}
[[upstream]]
name = "mock"
base_url = "http://{mock}/v1"
"""


class Missing(Exception):
    """The target cannot be run on this machine."""


class Launcher:
    """Starts processes on their core, with the same priority for all."""

    def __init__(self, directory, cores, nice):
        self.directory, self.nice = directory, nice
        self.target_core, self.load_core = cores

    def start(self, command, core, log):
        with open(self.directory / log, "ab") as output:
            return subprocess.Popen(
                ["taskset", "-c", core, *map(str, command)],
                env=os.environ | {SECRET_ENV: "of no use to anybody but the bench"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self.take_priority,
            )

    def take_priority(self):
        """A session of its own has a scheduling group of its own, which needs the weight too."""
        if self.nice:
            os.setpriority(os.PRIO_PROCESS, 0, self.nice)
            with open("/proc/self/autogroup", "w") as group:
                group.write(str(self.nice))


class Target:
    """One server; `direct` is the mock upstream itself."""

    def __init__(self, name, launcher, mock):
        self.name, self.launcher, self.mock = name, launcher, mock
        self.directory = launcher.directory / name.replace("/", "-")
        self.address = mock.address if name == "direct" else f"127.0.0.1:{free_port()}"
        self.process = None

    def pid(self):
        return self.mock.process.pid if self.name == "direct" else self.process.pid

    def start(self):
        if self.name == "direct":
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        log = f"{self.directory.name}.log"
        self.process = self.launcher.start(self.command(), self.launcher.target_core, log)
        await_answer(self.process, self.address, self.launcher.directory / log)

    def command(self):
        raise NotImplementedError

    def settings(self):
        return {
            "dir": self.directory,
            "mock": self.mock.address,
            "port": self.address.rsplit(":", 1)[1],
        }

    def version(self):
        return ""

    def signal(self, number):
        if self.process:
            for pid in machine.tree(self.process.pid):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def stop(self):
        if self.process:
            end(self.process)
            self.process = None


class Direct(Target):
    pass


class Nginx(Target):
    program = "nginx"

    def command(self):
        file = self.directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(NGINX.format(**self.settings(), user=user))
        return [find(self.program), "-c", file, "-p", self.directory]

    def version(self):
        shown = subprocess.run([find(self.program), "-v"], capture_output=True, text=True)
        return shown.stderr.strip().rsplit(": ", 1)[-1]


class Haproxy(Target):
    program = "haproxy"

    def command(self):
        file = self.directory / "haproxy.cfg"
        file.write_text(HAPROXY.format(**self.settings()))
        return [find(self.program), "-db", "-f", file]

    def version(self):
        shown = subprocess.run([find(self.program), "-v"], capture_output=True, text=True)
        return " ".join(shown.stdout.split()[:3:2])


class Product(Target):
    """Open-AIOps; what follows the slash of its name is the variant of its ledger."""

    binary = None
    admin = None
    services = None

    def command(self):
        file = self.directory / "config.toml"
        admin_port = free_port()
        self.admin = f"127.0.0.1:{admin_port}"
        settings = self.settings() | {"admin_port": admin_port, "ledger": self.variant()}
        file.write_text(PRODUCT.format(**settings))
        return [self.binary, "serve", "--config", file]

    def variant(self):
        """What follows the `[ledger]` of its config, its services running."""
        text = VARIANTS[self.name.partition("/")[2]]
        needed = {name for _, name, *_ in string.Formatter().parse(text) if name}
        return text.format(**{name: self.services.address(name) for name in needed})

    def start(self):
        if not (self.binary and self.binary.is_file()):
            raise Missing(f"no binary at {self.binary}: cargo build --release, or --binary PATH")
        super().start()

    def start_fresh(self):
        """Starts anew with an empty ledger."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.start()

    def version(self):
        command = [self.binary, "--version"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=2)
        except subprocess.TimeoutExpired:
            return ""
        return shown.stdout.strip()


KINDS = {"direct": Direct, "nginx": Nginx, "haproxy": Haproxy, "open-aiops": Product}


def create(name, launcher, mock):
    return KINDS[name.partition("/")[0]](name, launcher, mock)


class Mock:
    """The mock upstream."""

    def __init__(self, program, launcher):
        self.address = f"127.0.0.1:{free_port()}"
        command = [program, self.address]
        self.process = launcher.start(command, launcher.load_core, "mock.log")
        await_answer(self.process, self.address, launcher.directory / "mock.log")

    def set_pace(self, pace):
        request(self.address, "GET", f"/ctl?{pace}")

    def stop(self):
        end(self.process)


def find(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Missing(f"{program} is not installed")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(address, method, path, body=None, tags=None, timeout=5):
    """Status and body of the answer."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        headers = {"content-type": "application/json"} | (tags or {})
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def await_answer(process, address, log):
    """Ready is who answers a call."""
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": "gpt-4o-mini", "max_tokens": 4, "messages": messages})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if request(address, "POST", "/v1/chat/completions", body)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.02)
    tail = log.read_text(errors="replace")[-2000:]
    end(process)
    raise Missing(f"did not answer at {address}:\n{tail}")


def end(process):
    """Ends a process started here, and what it started."""
    for number in (signal.SIGCONT, signal.SIGTERM):
        signal_group(process, number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)
        process.wait()


def signal_group(process, number):
    """Its session's group is its own: see Launcher.start."""
    if process.poll() is None:
        os.killpg(process.pid, number)
