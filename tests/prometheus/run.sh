#!/usr/bin/env bash
# A real Prometheus scrapes the given binary by our example configuration, and answers every query of the
# dashboard and of the alert rules. promtool tests the rules.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
repo=$(cd "$here/../.." && pwd)

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
    [ -z "${CI:-}" ] || install_packages prometheus
fi
if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null || ! command -v python3 >/dev/null; then
    echo "SKIPPED: no prometheus, promtool or python3, so no query was asked of a real one" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
promtool check rules "$repo/deploy/prometheus/alerts.yml"
promtool test rules "$here/alerts.test.yml"
python3 "$here/check.py" "$(realpath "$1")"
