#!/usr/bin/env bash
# Checks what the program is shipped in and with: a static binary, completions, manual pages, the systemd unit,
# the manifests for Kubernetes, the container image, and the package for cargo.
#   tests/packaging/run.sh target/x86_64-unknown-linux-musl/release/open-aiops
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
home=${PACKAGING_HOME:-$HOME/.cache/open-aiops-packaging}

# Of each Debian package one command that it brings.
packages=(bash:bash zsh:zsh fish:fish mandoc:mandoc systemd:systemd-analyze buildah:buildah iproute2:ip util-linux:unshare)
mapfile -t missing < <(missing_packages "${packages[@]}")
[ -z "${CI:-}" ] || [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: no python3, so nothing of the packaging was checked" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
python_environment "$home" "$here/requirements.txt"
PATH="$home/bin:$PATH" "$home/bin/python" "$here/check.py" "$(realpath "$1")"
