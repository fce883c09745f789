#!/usr/bin/env bash
# Reads exported Parquet back with pyarrow, and compares it with the same rows as JSON lines and CSV.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
home=${EXPORT_HOME:-$HOME/.cache/open-aiops-export}
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: no python3, so exported Parquet files were read back by nothing" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
python_environment "$home" "$here/requirements.txt"
"$home/bin/python" "$here/check.py" "$1"
