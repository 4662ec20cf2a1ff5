#!/usr/bin/env bash
# Makes the development environment, or runs Poetry as this project needs it.
#
#   scripts/setup_environment.sh                 make or update .venv (and .poetry, which holds Poetry itself)
#   scripts/setup_environment.sh poetry ARGS...  run Poetry, for example `poetry lock` or `poetry add NAME`
#
# Environment variables, all optional:
#   PYTHON            the interpreter to build .venv with; otherwise the first suitable one on PATH
#   TORCH_INDEX_URL   a package index with CPU builds of torch, for machines without an NVIDIA GPU
#   TORCH_BUILD       `cpu` or `cuda`, to decide instead of looking for a GPU
#
# It can be stopped at any time and run again: every step leaves alone what is already there.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly ROOT=$PWD
readonly VENV=$ROOT/.venv
readonly POETRY_ENVIRONMENT=$ROOT/.poetry
readonly STAMP=$VENV/setup.stamp
readonly WORK=$ROOT/build/setup
readonly LOG=$WORK/setup.log

# Poetry is no dependency of the project, so its version stands here and not in the lock.
readonly POETRY_PACKAGES=(poetry==2.5.1 poetry-plugin-export==1.10.1 poetry-plugin-pypi-mirror==0.6.5)
# Knows where torch's CPU builds are published; only installed when nothing nearer has one.
readonly UV_PACKAGE="uv>=0.9,<1"
# Seconds that a question to the network may take before the answer counts as no.
readonly PROBE_SECONDS=5

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# A desktop keyring may ask for a password in a window that nobody sees.
export POETRY_NO_INTERACTION=1 POETRY_KEYRING_ENABLED=false

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

# Prints the path of a Python of the supported versions that can make virtual environments.
find_python() {
    local candidate found
    for candidate in "${PYTHON:-}" python3 python3.12 python3.11 python3.13 python; do
        [ -n "$candidate" ] || continue
        # Version managers put names on PATH that fail when run, and Debian ships Python without ensurepip.
        if found=$("$candidate" -c '
import ensurepip, sys, venv
print(sys.executable)
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
' 2>/dev/null); then
            printf '%s\n' "$found"
            return
        fi
        [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is no Python 3.11 to 3.13 with venv and ensurepip"
    done
    fail "no Python 3.11, 3.12 or 3.13 with venv found; install one (on Debian also python3-venv) or set PYTHON=/path/to/python"
}

# Changes whenever the environment would have to.
fingerprint() {
    {
        cat pyproject.toml poetry.lock scripts/setup_environment.sh
        printf '%s %s %s\n' "$ROOT" "${TORCH_BUILD:-}" "${TORCH_INDEX_URL:-}"
        "$VENV/bin/python" --version
    } | cksum
}

is_up_to_date() {
    [ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/g2p" ] && [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]
}

# Runs a command, keeps its output in the log, and shows one line for every 25 packages that pip looks at.
run_logged() {
    local what=$1
    shift
    printf '\n$ %s\n' "$*" >>"$LOG"
    if ! "$@" 2>&1 | tee -a "$LOG" | awk '/^Collecting /{if (++count % 25 == 0) {print "setup:   " count " packages"; fflush()}}'; then
        tail -n 3 "$LOG" >&2
        fail "$what did not work; the whole output is in ${LOG#"$ROOT/"}; run the same command again to go on from here"
    fi
}

make_poetry() {
    local wanted="${POETRY_PACKAGES[*]}" python
    [ "$(cat "$POETRY_ENVIRONMENT/packages.stamp" 2>/dev/null)" = "$wanted $ROOT" ] && "$POETRY_ENVIRONMENT/bin/poetry" --version >/dev/null 2>&1 && return
    python=$(find_python)
    say "Poetry goes into .poetry"
    "$python" -m venv --clear "$POETRY_ENVIRONMENT" || fail "$python cannot make a virtual environment; on Debian install python3-venv"
    run_logged "installing Poetry" "$POETRY_ENVIRONMENT/bin/python" -m pip install "${POETRY_PACKAGES[@]}"
    printf '%s\n' "$wanted $ROOT" >"$POETRY_ENVIRONMENT/packages.stamp"
}

# Poetry asks the registry one JSON document per release. Mirrors often have only the simple index that pip reads;
# a plugin sends Poetry there. Whether that is needed is asked, of the registry that pip knows.
point_poetry_at_an_index() {
    [ -z "${POETRY_PYPI_MIRROR_URL:-}" ] || return 0
    local mirror
    mirror=$("$POETRY_ENVIRONMENT/bin/python" - "$PROBE_SECONDS" <<'PYTHON'
import sys
import urllib.request

from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI

settings = Configuration(isolated=False)
settings.load()
configured = [value for name, value in settings.items() if name.endswith(".index-url")]
try:
    address = f"{PyPI.pypi_url}/poetry-core/2.5.0/json"
    urllib.request.urlopen(address, timeout=float(sys.argv[1])).close()
except OSError:
    print(configured[-1] if configured else PyPI.simple_url)
PYTHON
    )
    [ -z "$mirror" ] || export POETRY_PYPI_MIRROR_URL=$mirror
}

run_poetry() {
    case "${1:-}" in
        add | install | lock | remove | search | show | sync | update) point_poetry_at_an_index ;;
    esac
    # Whatever environment the caller has active, the project's own is meant.
    VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH "$POETRY_ENVIRONMENT/bin/poetry" "$@"
}

make_venv() {
    if [ -e "$VENV" ] && ! "$VENV/bin/python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        say ".venv has no working Python 3.11 to 3.13; making it anew"
        rm -rf "$VENV"
    fi
    [ -x "$VENV/bin/pip" ] && return
    local python
    python=$(find_python)
    say ".venv is made with $("$python" --version)"
    "$python" -m venv "$VENV" || fail "$python cannot make a virtual environment; on Debian install python3-venv"
}

torch_version() { awk '/^name = "torch"$/{getline; gsub(/"/, "", $3); print $3; exit}' poetry.lock; }

# Prints the version of torch in .venv, with its build after a plus sign, or nothing.
installed_torch() {
    "$VENV/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true
}

has_nvidia_gpu() {
    [ "${TORCH_BUILD:-}" != cpu ] || return 1
    [ "${TORCH_BUILD:-}" = cuda ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || nvidia-smi -L >/dev/null 2>&1
}

# Installs a CPU build of torch, from the nearest place that has one; fails where none does.
install_cpu_torch() {
    local wanted=$1 pip=("$VENV/bin/python" -m pip)
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        run_logged "installing torch from TORCH_INDEX_URL" "${pip[@]}" install --no-deps --index-url "$TORCH_INDEX_URL" "torch==$wanted"
        return
    fi
    # pip's own configuration may name a folder or an index with a CPU build; a dry run tells which build it would take.
    if "${pip[@]}" install --dry-run --ignore-installed --no-deps --quiet --report - "torch==$wanted" 2>/dev/null | grep -q "\"version\": \"$wanted+cpu\""; then
        run_logged "installing torch" "${pip[@]}" install --no-deps "torch==$wanted"
        return
    fi
    say "asking for a CPU build of torch where its authors publish them"
    "$POETRY_ENVIRONMENT/bin/python" -m pip install --quiet "$UV_PACKAGE" >>"$LOG" 2>&1 &&
        UV_HTTP_TIMEOUT=30 UV_HTTP_RETRIES=0 "$POETRY_ENVIRONMENT/bin/uv" pip install --python "$VENV/bin/python" \
            --torch-backend cpu --no-deps "torch==$wanted" >>"$LOG" 2>&1
}

install_packages() {
    local requirements=$WORK/requirements.txt wanted without=
    wanted=$(torch_version)
    if [ "$(uname -s)" = Linux ] && ! has_nvidia_gpu; then
        if [ "$(installed_torch)" = "$wanted+cpu" ] || install_cpu_torch "$wanted"; then
            without='^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)=='
            say "torch $wanted, CPU build"
        else
            say "no CPU build of torch $wanted can be had here, so the CUDA build follows (about 4 GB); it runs without a GPU too"
        fi
    fi
    # Poetry would replace a CPU build of torch by the CUDA build and its 4 GB, so it only writes the list, with the
    # lock's hashes, and pip installs it.
    run_poetry export --quiet --all-extras --with dev --output "$requirements.all" ||
        fail "poetry.lock and pyproject.toml do not fit each other; run make lock"
    awk -v without="${without:-^$}" '/^[^ ]/{keep = $0 !~ without} keep' "$requirements.all" >"$requirements"
    say "up to $(grep -c '^[^ ]' "$requirements") packages are installed, some minutes the first time"
    run_logged "installing the dependencies" "$VENV/bin/python" -m pip install --no-deps --require-hashes -r "$requirements"
    run_logged "installing the project" run_poetry install --only-root
}

make_environment() {
    if is_up_to_date; then
        say ".venv is up to date"
        return
    fi
    : >"$LOG"
    make_poetry
    make_venv
    install_packages
    # Mismatched CUDA libraries crash on import: better here, with a word of advice, than in training.
    "$VENV/bin/python" -c 'import torch' >>"$LOG" 2>&1 || fail "torch does not import; remove .venv and run make setup again"
    fingerprint >"$STAMP"
    say "done; next: source .venv/bin/activate && pre-commit install"
}

main() {
    mkdir -p "$WORK"
    case "${1:-environment}" in
        environment) make_environment ;;
        poetry)
            shift
            make_poetry
            run_poetry "$@"
            ;;
        *) fail "unknown argument $1; known are: environment, poetry" ;;
    esac
}

main "$@"
