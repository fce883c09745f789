"""What is started for the check, on loopback and free ports: an upstream, the proxy, Phoenix."""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 120


def wait_for(what, look):
    """The first result that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: did not happen within {PATIENCE} s")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ask(url, body=None, headers=None):
    """The JSON of an answer, and its status; none where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | (headers or {})
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        text, status = error.read(), error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None, None
    try:
        return json.loads(text), status
    except ValueError:
        return text.decode(), status


USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "total_tokens": 1050,
    "prompt_tokens_details": {"cached_tokens": 600},
    "completion_tokens_details": {"reasoning_tokens": 20},
}


class Model(http.server.BaseHTTPRequestHandler):
    """Answers chat completions, whole or as a stream, and keeps the headers it got."""

    protocol_version = "HTTP/1.1"
    heads = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        length = int(self.headers["content-length"])
        asked = json.loads(self.rfile.read(length))
        Model.heads.append(dict(self.headers))
        if asked["model"] == "broken":
            return self.answer(500, "application/json", b'{"error":{"message":"no"}}')
        base = {"id": f"chatcmpl-{len(Model.heads)}", "model": asked["model"] + "-2026", "object": "chat.completion"}
        if not asked.get("stream"):
            said = {"role": "assistant", "content": "Sunny in Rome."}
            choice = {"index": 0, "message": said, "finish_reason": "stop"}
            body = base | {"choices": [choice], "usage": USAGE}
            return self.answer(200, "application/json", json.dumps(body).encode())
        events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("Sunny", " in", " Rome.")]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({"choices": [], "usage": USAGE})
        lines = [f"data: {json.dumps(base | event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        self.answer(200, "text/event-stream", "".join(lines).encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Program:
    """A process of ours; ended by its number and no other way."""

    def __init__(self, command, log, env=None):
        self.log = pathlib.Path(log)
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=open(self.log, "ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def text(self):
        return self.log.read_text("utf-8", "replace")


class Phoenix(Program):
    """Starts again on the same ports with the same data."""

    def __init__(self, command, home):
        self.command, self.home = command, home
        self.http, self.grpc = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"

    def start(self):
        env = {
            "PHOENIX_WORKING_DIR": str(self.home / "phoenix"),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.http),
            "PHOENIX_GRPC_PORT": str(self.grpc),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        (self.home / "phoenix").mkdir(exist_ok=True)
        super().__init__([self.command, "serve"], self.home / "phoenix.log", env)
        wait_for("the start of Phoenix", lambda: ask(f"{self.url}/healthz")[1] == 200 or self.process.poll())
        assert self.process.poll() is None, self.text()

    def spans(self, project):
        found, status = ask(f"{self.url}/v1/projects/{project}/spans?limit=1000")
        return found["data"] if status == 200 else []

    def costs(self, project):
        """What Phoenix itself makes of tokens, cost and session, by the id of a span."""
        query = """{ projects { edges { node { name spans(first: 500) { edges { node {
            spanId parentId tokenCountTotal tokenCountPrompt tokenCountCompletion statusCode latencyMs
            costSummary { total { cost } } trace { session { sessionId } }
            input { value } output { value } } } } } } } }"""
        found, _ = ask(f"{self.url}/graphql", {"query": query})
        assert "errors" not in found, found["errors"]
        projects = [edge["node"] for edge in found["data"]["projects"]["edges"]]
        [spans] = [it["spans"]["edges"] for it in projects if it["name"] == project]
        return {edge["node"]["spanId"]: edge["node"] for edge in spans}


class Proxy(Program):
    def __init__(self, binary, home, config):
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(config)
        (home / "proxy.log").unlink(missing_ok=True)
        command = [binary, "serve", "--config", home / "config.toml", "--dir", home / "data"]
        super().__init__(command, home / "proxy.log", {"OTLP_KEY": "secret-0123456789"})

        def addresses():
            lines = self.text().splitlines()
            found = [line.split(" on ")[1] for line in lines if " listening on http" in line and " on http" in line]
            return found if len(found) >= 2 else self.process.poll() is not None and [self.text(), ""]

        self.url, self.admin = wait_for("the start of the proxy", addresses)[:2]
        assert self.process.poll() is None, self.text()

    def chat(self, model, said, headers=None, **more):
        body = {"model": model, "messages": [{"role": "user", "content": said}], "temperature": 0.5} | more
        return ask(f"{self.url}/v1/chat/completions", body, headers)

    def counted(self, name):
        text, _ = ask(f"{self.admin}/metrics")
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
