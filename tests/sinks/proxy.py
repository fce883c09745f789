"""The proxy under test, an upstream it talks to, and calls through it."""

import json
import pathlib
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answered = 0
    lock = threading.Lock()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with Upstream.lock:
            Upstream.answered += 1
            number = Upstream.answered
        usage = {
            "prompt_tokens": 100 + number % 7, "completion_tokens": 10 + number % 3,
            "total_tokens": 110 + number % 7 + number % 3,
            "prompt_tokens_details": {"cached_tokens": number % 5},
        }
        message = {"role": "assistant", "content": f"answer {number}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": f"chatcmpl-{number}", "object": "chat.completion", "model": "gpt-5-mini"}
        body = json.dumps({**body, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    """Connections that end when the proxy is killed are nothing to tell."""

    def handle_error(self, *_):
        pass


def upstream():
    server = Quiet(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Proxy:
    """A process over one ledger; started anew it has other ports."""

    def __init__(self, binary, home, config, env):
        self.binary, self.home, self.env = binary, pathlib.Path(home), env
        self.home.mkdir(exist_ok=True)
        self.configure(config)
        self.log = self.home / "log"
        self.start()

    def configure(self, config):
        (self.home / "config.toml").write_text(config, encoding="utf-8")

    def start(self, env=None):
        self.env = env or self.env
        with open(self.log, "a", encoding="utf-8") as log:
            command = [self.binary, "serve", "--config", "config.toml"]
            self.process = subprocess.Popen(
                command, cwd=self.home, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        said = [self.process.stdout.readline().split()[-1] for _ in range(2)]
        self.proxy, self.admin = said

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cli(self, *command, ok=True):
        command = [self.binary, *command, "--config", "config.toml"]
        done = subprocess.run(command, cwd=self.home, env=self.env, capture_output=True, text=True)
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout if ok else done.stderr

    def sinks(self):
        return {it["name"]: it for it in json.loads(self.cli("sinks", "--json"))["sinks"]}

    def export(self):
        out = self.home / "exported"
        self.cli("export", "calls", "decisions", "metrics", "--out", str(out), "--format", "jsonl", "--force")
        read = lambda name: (out / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]
        return {name: [json.loads(line) for line in read(name)] for name in ("calls", "decisions", "metrics")}

    def call(self, number, **headers):
        body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": f"question {number} " * 20}]}
        request = urllib.request.Request(f"{self.proxy}/v1/chat/completions", json.dumps(body).encode())
        request.add_header("content-type", "application/json")
        request.add_header("authorization", "Bearer sk-of-the-client")
        for name, value in headers.items():
            request.add_header("x-aiops-" + name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
            answer.read()

    def calls_until_killed(self, count):
        try:
            self.calls(count)
        except (OSError, HTTPException):
            pass

    def calls(self, count, **headers):
        """Some at a time, each of one of some agents."""
        one = lambda number: self.call(number, **{"agent": f"agent-{number % 4}", "run": f"run-{number % 10}", **headers})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))
