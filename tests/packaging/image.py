"""Builds the last stage of the Containerfile around a binary that is there, and runs what it makes.

The first stage compiles in an image from a registry; its result is put in its place. No daemon, no registry
and no network: the container runs by chroot, in a network namespace of its own, with the ports it has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

NAME = "open-aiops-check"


def check(binary: Path, home: Path, repo: Path, token: str) -> None:
    store = ["buildah", "--root", f"{home}/store", "--runroot", f"{home}/run"]
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}

    def buildah(*arguments: str | Path) -> str:
        command = [*store, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    built = stage(binary, home / "built", repo)
    # A name of a stage that is given as a directory is taken from there.
    buildah(
        "build", "--quiet", "--format", "docker", "--build-context", f"build={built}",
        "--tag", NAME, "--file", repo / "Containerfile", repo,
    )  # fmt: skip
    check_description(json.loads(buildah("inspect", "--type", "image", NAME)))
    container = buildah("from", NAME)
    script = home / "inside.sh"
    script.write_text(INSIDE)
    try:
        done = subprocess.run(
            ["unshare", "--net", "bash", script, container, token, home / "serve.log"],
            env=environment | {"BUILDAH": " ".join(store)},
            capture_output=True,
            text=True,
        )
    finally:
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")
    if done.returncode:
        log = (home / "serve.log").read_text()
        raise SystemExit(f"in the container: {done.stdout}{done.stderr}\n{log}")


def stage(binary: Path, directory: Path, repo: Path) -> Path:
    """What the first stage leaves behind."""
    image = directory / "image"
    for source, place in [
        (binary, "usr/bin/open-aiops"),
        (Path("/etc/ssl/certs/ca-certificates.crt"), "etc/ssl/certs/ca-certificates.crt"),
        (repo / "deploy/container/config.toml", "etc/open-aiops/config.toml"),
    ]:
        target = image / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copy(source, target)
    (image / "var/lib/open-aiops").mkdir(parents=True, mode=0o700)
    return directory


def check_description(image: dict[str, dict]) -> None:
    config = image["Docker"]["config"]
    for name, expected in [
        ("User", "65532:65532"),
        ("Entrypoint", ["open-aiops"]),
        ("Cmd", ["serve"]),
        ("WorkingDir", "/etc/open-aiops"),
        ("ExposedPorts", {"8787/tcp": {}, "8788/tcp": {}}),
        ("Volumes", {"/var/lib/open-aiops": {}}),
        ("StopSignal", "SIGTERM"),
    ]:
        if config.get(name) != expected:
            raise SystemExit(f"the image has {name} {config.get(name)}, expected {expected}")
    if config["Healthcheck"]["Test"] != ["CMD", "open-aiops", "health"]:
        raise SystemExit(f"the image has {config['Healthcheck']}")


# Nothing but the program is in the image, so all is asked through it, or from outside.
INSIDE = textwrap.dedent(
    """\
    set -euo pipefail
    container=$1 token=$2 log=$3
    ip link set lo up
    inside() { $BUILDAH run --env OPEN_AIOPS_TOKEN="$token" "$container" -- open-aiops "$@"; }
    fail() { echo "$*" >&2; exit 1; }

    # Without a token it does not serve who can reach it, and says what is missing.
    if $BUILDAH run "$container" -- open-aiops serve >"$log" 2>&1; then fail "it serves without a token"; fi
    grep -q OPEN_AIOPS_TOKEN "$log" || fail "it does not say that the token is missing"

    inside serve >"$log" 2>&1 &
    serving=$! server=
    # What it mounted goes when it has ended.
    trap 'kill "${server:-$serving}" 2>/dev/null || true; wait "$serving" || true' EXIT
    for _ in $(seq 300); do
        [ "$(grep -c 'listening on http://0.0.0.0:878[78]' "$log")" = 2 ] && break
        kill -0 "$serving" || fail "it ended"
        sleep 0.1
    done
    server=$(ss -Hltnp 'sport = :8788' | sed 's/.*pid=\\([0-9]*\\).*/\\1/')
    [ "$(stat -c %u "/proc/$server")" = 65532 ] || fail "it runs as $(stat -c %u "/proc/$server")"
    [ "$(inside health)" = ready ] || fail "it is not ready"
    status() { curl -sS -o /dev/null -w '%{http_code}' "$@"; }
    [ "$(status http://127.0.0.1:8788/metrics)" = 401 ] || fail "metrics are told without the token"
    [ "$(status -H "authorization: Bearer $token" http://127.0.0.1:8788/metrics)" = 200 ] || fail "no metrics"
    # There is no network: the call fails, and is on record.
    [ "$(status http://127.0.0.1:8787/v1/models -H 'x-aiops-agent: packaged')" = 502 ] || fail "not 502"
    inside agents | grep -q packaged || fail "the call is not on record"
    kill -TERM "$server"
    wait "$serving" || fail "it did not end as it should"
    if inside health 2>/dev/null; then fail "it is said to be well when it is gone"; fi
    inside ledger check >/dev/null || fail "the ledger is not sound"
    """
)
