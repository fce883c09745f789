#!/usr/bin/env bash
# Drives the dashboard of a built binary in a real browser:
#   run.sh BINARY                          the suite
#   run.sh BINARY screenshots.mjs DIR      the pictures of the README
# Needs node (20 or later), npm and Chromium; CHROMIUM names another one. Node is that of the client tests where they
# brought one, since they do so where the system's is missing or old.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
export PATH="${CLIENTS_HOME:-$HOME/.cache/open-aiops-clients}/bin:$PATH"
binary=$(realpath "$1")
script=${2:-suite.mjs}
home=${BROWSER_TESTS_HOME:-$HOME/.cache/open-aiops-browser}
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
chromium=${CHROMIUM:-$(find_chromium || true)}
if [ -z "$chromium" ] && [ -n "${CI:-}" ]; then
    install_packages chromium fonts-liberation
    chromium=$(find_chromium || true)
fi
[ -n "$chromium" ] || { echo "no Chromium found: install it (Debian: apt-get install chromium) or set CHROMIUM" >&2; exit 1; }
command -v node >/dev/null || { echo "no node found: install Node.js 20 or later" >&2; exit 1; }

mkdir -p "$home"
if ! cmp -s "$here/package.json" "$home/package.json" || [ ! -d "$home/node_modules/axe-core" ]; then
    cp "$here/package.json" "$home/package.json"
    (cd "$home" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --silent --no-audit --no-fund --no-package-lock)
fi
export BROWSER_TESTS_HOME=$home CHROMIUM=$chromium OPEN_AIOPS=$binary
if [ "$script" = suite.mjs ]; then
    exec node --test --test-concurrency=1 --test-reporter=spec "$here/suite.mjs" "$here/compare.mjs"
fi
exec node "$here/$script" "${@:3}"
