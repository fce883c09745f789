"""Checks what the program is shipped in and with. Which tools are missing is said; with CI set that fails."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

import image

REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
TOKEN = "0123456789abcdef0123456789abcdef"
# Of 10, as systemd-analyze counts what an attacker could do: its own services are at 1 to 9.
MOST_EXPOSED = 1.5


class Missing(Exception):
    """A tool is not there."""


def need(*tools: str) -> None:
    for tool in tools:
        if not shutil.which(tool):
            raise Missing(tool)


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        words = " ".join(map(str, command))
        raise SystemExit(f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def commands_of(binary: Path) -> list[str]:
    """As the program itself lists them."""
    told = run(binary, "--help").split("Commands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in told.splitlines() if not line.startswith("   ")]


def check_static(binary: Path, home: Path) -> None:
    need("ldd")
    told = subprocess.run(["ldd", binary], capture_output=True, text=True)
    words = told.stdout + told.stderr
    if "statically linked" not in words and "not a dynamic executable" not in words:
        raise Missing("a static binary: build it for x86_64-unknown-linux-musl")


def check_completions(binary: Path, home: Path) -> None:
    need("bash", "zsh", "fish")
    for shell in ("bash", "zsh", "fish", "elvish", "powershell"):
        script = home / f"completion.{shell}"
        script.write_text(run(binary, "completions", shell))
        for command in commands_of(binary):
            if command not in script.read_text():
                raise SystemExit(f"completions of {shell} lack {command}")
    for shell in ("bash", "zsh", "fish"):
        run(shell, "-n", home / f"completion.{shell}")
    # What bash offers for `open-aiops budgets ra<tab>`, and fish for `open-aiops ledger re<tab>`.
    offered = run(
        "bash", "-c",
        f"source {home}/completion.bash; COMP_WORDS=(open-aiops budgets ra); COMP_CWORD=2; "
        '_open_aiops open-aiops ra budgets; echo "${COMPREPLY[@]}"',
    )
    if offered.strip() != "raise" or "default open-aiops\n" not in (home / "completion.bash").read_text():
        raise SystemExit(f"bash offers {offered!r} for `open-aiops budgets ra`")
    offered = run(
        "fish", "--no-config", "-c",
        f"source {home}/completion.fish; complete -C 'open-aiops ledger re'",
    )
    if not offered.startswith("rebuild\t"):
        raise SystemExit(f"fish offers {offered!r} for `open-aiops ledger re`")


def check_man(binary: Path, home: Path) -> None:
    need("mandoc")
    pages = home / "man1"
    run(binary, "man", "--out", pages)
    run("mandoc", "-T", "lint", "-W", "error", *sorted(pages.iterdir()))
    for command in commands_of(binary):
        page = pages / f"open-aiops-{command}.1"
        if command != "help" and not page.is_file():
            raise SystemExit(f"{page.name} is missing")
    # A page names only pages that there are.
    for page in pages.iterdir():
        for other in re.findall(r"open\\-aiops(?:\\-\w+)+\(1\)", page.read_text()):
            name = other.replace("\\", "").removesuffix("(1)")
            if not (pages / f"{name}.1").is_file():
                raise SystemExit(f"{page.name} names {name}, which has no page")
    if run(binary, "man", "budgets", "raise") != (pages / "open-aiops-budgets-raise.1").read_text():
        raise SystemExit("a page is another one when it is printed")


def check_unit(binary: Path, home: Path) -> None:
    need("systemd-analyze")
    text = (DEPLOY / "systemd" / "open-aiops.service").read_text()
    unit = home / "open-aiops.service"
    unit.write_text(text.replace("/usr/local/bin/open-aiops", str(binary)))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    if told.returncode or told.stderr:
        raise SystemExit(f"systemd-analyze verify: {told.stderr}")
    level = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    exposed = float(re.search(r"exposure level for .*: ([0-9.]+)", level).group(1))
    if exposed > MOST_EXPOSED:
        raise SystemExit(level)


def check_notify(binary: Path, home: Path) -> None:
    """What `Type=notify` waits for comes when both listeners answer, and when the server ends."""
    (home / "config.toml").write_text(
        '[proxy]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    )
    place = home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(place))
        heard.settimeout(60)
        serve = [binary, "serve", "--config", home / "config.toml", "--dir", home / "notified"]
        environment = {"NOTIFY_SOCKET": str(place)}
        with (home / "notify.log").open("w") as log:
            server = subprocess.Popen(serve, env=environment, stdout=log, stderr=log)
        try:
            told = [heard.recv(4096).decode().strip()]
            health = [binary, "health", "--config", home / "config.toml", "--dir"]
            if run(*health, home / "notified") != "ready\n":
                raise SystemExit("it says that it is ready, and is not")
            server.terminate()
            told.append(heard.recv(4096).decode().strip())
        finally:
            server.terminate()
            code = server.wait(60)
        if told != ["READY=1", "STOPPING=1"] or code:
            raise SystemExit(f"systemd is told {told}, and the exit code is {code}")
        gone = subprocess.run([*health, home / "notified"], capture_output=True, text=True)
        if gone.returncode != 1 or "no server runs" not in gone.stderr:
            raise SystemExit(f"health of nobody: {gone}")


def check_manifests(binary: Path, home: Path) -> None:
    need("kubernetes-validate")
    for manifest in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        run("kubernetes-validate", "--strict", "--no-warn", manifest)
        resources = list(yaml.safe_load_all(manifest.read_text()))
        configs = [it["data"]["config.toml"] for it in resources if it["kind"] == "ConfigMap"]
        for number, text in enumerate(configs):
            check_config(binary, home / f"{manifest.stem}-{number}.toml", text)
        if not configs:
            raise SystemExit(f"{manifest.name} has no configuration")
        # As it is shipped it has to be refused: nobody should run with the secrets of an example.
        secret = next(it for it in resources if it["kind"] == "Secret")["stringData"]
        code, told = config_of(binary, home / f"{manifest.stem}-0.toml", secret)
        if code != 1 or "OPEN_AIOPS_TOKEN" not in told or "config.toml" in told:
            raise SystemExit(f"{manifest.name} with its own secrets: {code}, {told}")


def check_config(binary: Path, file: Path, text: str) -> None:
    file.write_text(text)
    code, told = config_of(binary, file, {"OPEN_AIOPS_TOKEN": TOKEN, "OPENAI_API_KEY": "sk-x"})
    if code:
        raise SystemExit(f"{text}\n{told}")


def config_of(binary: Path, file: Path, environment: dict[str, str]) -> tuple[int, str]:
    command = [binary, "check-config", "--config", file]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


def check_image(binary: Path, home: Path) -> None:
    check_static(binary, home)
    need("hadolint", "buildah", "unshare", "ip", "ss", "curl")
    run("hadolint", REPO / "Containerfile")
    text = (DEPLOY / "container" / "config.toml").read_text()
    check_config(binary, home / "container.toml", text)
    image.check(binary, home, REPO, TOKEN)


def check_package(binary: Path, home: Path) -> None:
    """What is compiled in has to be in the package too."""
    need("cargo")
    listed = run("cargo", "package", "--list", "--allow-dirty", "--locked", "--offline", cwd=REPO)
    listed = set(listed.splitlines())
    include = re.compile(r'include_(?:str|bytes)!\("([^"]+)"\)')
    wanted = {"Cargo.lock", "README.md", "LICENSE", "deploy/grafana/open-aiops.json"}
    for source in (REPO / "src").rglob("*.rs"):
        wanted.add(str(source.relative_to(REPO)))
        for name in include.findall(source.read_text()):
            for base in (source.parent, source.parent.parent):
                if (base / name).is_file():
                    wanted.add(str((base / name).resolve().relative_to(REPO)))
    if missing := sorted(wanted - listed):
        raise SystemExit(f"not in the package: {missing}")
    if foreign := [name for name in listed if name.startswith((".ci/", "tests/clients/", "bench/"))]:
        raise SystemExit(f"should not be in the package: {foreign}")


def main() -> None:
    binary = Path(sys.argv[1])
    checks: list[Callable[[Path, Path], None]] = [
        check_static, check_completions, check_man, check_unit, check_notify, check_manifests,
        check_package, check_image,
    ]
    skipped = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for check in checks:
            name = check.__name__.removeprefix("check_")
            try:
                check(binary, Path(home))
                print(f"{name}: ok", flush=True)
            except Missing as tool:
                skipped += 1
                print(f"{name}: SKIPPED, there is no {tool}", file=sys.stderr, flush=True)
    if skipped and os.environ.get("CI"):
        raise SystemExit("nothing may be skipped here")


if __name__ == "__main__":
    main()
