"""One client: where it is installed, how a script of it is run, what was billed and recorded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

HERE = Path(__file__).resolve().parent
CLIENTS_HOME = Path(os.environ.get("CLIENTS_HOME", Path.home() / ".cache" / "open-aiops-clients"))
SCRIPT_TIMEOUT_SECONDS = 120
SETTLE_TIMEOUT_SECONDS = 5
POLL_SECONDS = 0.05

# Client -> the environment it is installed in.
CLIENTS = {
    "openai_sdk": "openai",
    "langgraph_app": "openai",
    "agents_sdk": "openai",
    "pydantic_ai_app": "openai",
    "smolagents_app": "openai",
    "autogen_app": "autogen",
    "crewai_app": "crewai",
    "litellm_app": "litellm",
    "llama_index_app": "llama_index",
    "openai_node": "node",
    "ai_sdk": "node",
    "agents_node": "node",
}

# Nothing may try to leave this machine.
QUIET = {
    "AI_SDK_LOG_WARNINGS": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_PROXY": "127.0.0.1",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """Where the scripts call, where the bill is, and where the records are (none: direct)."""

    root: str
    upstream: str
    admin: str | None
    directory: Path
    gzip: bool


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def post_json(url: str, body: Json, headers: dict[str, str] | None = None) -> Any:
    headers = {"content-type": "application/json"} | (headers or {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def wait_until(what: str, is_so: Callable[[], bool], over: Event) -> None:
    """Waits for what can only come before it is over."""
    while not is_so():
        if over.wait(POLL_SECONDS):
            raise TimeoutError(f"{what}: it never did")


def command_of(client: str, script: str, *arguments: str) -> list[str]:
    environment = CLIENTS[client]
    if environment == "node":
        node = CLIENTS_HOME / "bin" / "node"
        program, path = str(node) if node.exists() else "node", HERE / "node" / f"{script}.mjs"
    else:
        program = str(CLIENTS_HOME / environment / "bin" / "python")
        path = HERE / "python" / f"{script}.py"
    return [program, str(path), *arguments]


def script_environment(session: Session, run: str, key: str) -> dict[str, str]:
    """Without a run the script tags nothing."""
    base_url = f"{session.root}/v1"
    return QUIET | {
        "AIOPS_ROOT": session.root,
        "AIOPS_RUN": run,
        "HOME": str(session.directory),
        "LANG": "C.UTF-8",
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": key,
        "OPENAI_BASE_URL": base_url,
        "PATH": os.environ["PATH"],
        # Not beside the scripts; every client is started twice.
        "PYTHONPYCACHEPREFIX": str(CLIENTS_HOME / "pycache"),
    }


def run_script(
    command: list[str], environment: dict[str, str], directory: Path
) -> tuple[str, list[str]]:
    """Runs one script to its end; returns what it printed and what went wrong."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=SCRIPT_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "", [f"no end after {SCRIPT_TIMEOUT_SECONDS} s"]
    except OSError as error:
        return "", [f"not installed? {error}"]
    if reported_ok(done.stdout):
        return done.stdout, []
    tail = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-15:])
    return done.stdout, [f"exit status {done.returncode}\n    {tail}"]


def reported_ok(stdout: str) -> bool:
    last = stdout.strip().rpartition("\n")[2]
    try:
        return json.loads(last)["ok"] is True
    except (ValueError, KeyError, TypeError):
        return False


def billed_to(upstream: str, key: str) -> list[Json]:
    owner = hashlib.sha256(f"Bearer {key}".encode()).hexdigest()
    bill: list[Json] = get_json(f"{upstream}/_bill")
    return [entry for entry in bill if entry["authorization_sha256"] == owner]


def settled_calls(admin: str, run: str, expected: int) -> list[Json]:
    deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
    while True:
        calls: list[Json] = get_json(f"{admin}/api/v1/calls?run={run}&limit=1000")["calls"]
        settled = sum(call["outcome"] != "open" for call in calls)
        if settled >= expected or time.monotonic() > deadline:
            return calls
        time.sleep(POLL_SECONDS)


def settled_by_id(admin: str, ids: set[str]) -> dict[str, Json]:
    """The records of these responses, whatever run they are of."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
    while True:
        calls: list[Json] = get_json(f"{admin}/api/v1/calls?limit=1000")["calls"]
        found = {call["response_id"]: call for call in calls if call["response_id"] in ids}
        if len(found) == len(ids) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SECONDS)
