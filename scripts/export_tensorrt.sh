#!/usr/bin/env bash
# Builds a TensorRT engine with trtexec, for TensorRT 10.12 and later and 11, and checks it on real words.
#
#   scripts/export_tensorrt.sh [--run DIR | --core FILE] [overrides]    as `g2p export-tensorrt`
#
# The shapes come from the sample words under DVC, the precision from the network itself. trtexec times the parts of
# the network on this machine's GPU, so the engine fits this model of GPU and this version of TensorRT alone.
#
# Environment variables, all optional:
#   TRTEXEC   the program, where it is neither on PATH nor where NVIDIA's packages put it
#   G2P       the command g2p, otherwise that of .venv, else of PATH
#
# Exit status 3: TensorRT or a GPU is missing, or TensorRT is too old. Nothing is written then.
set -euo pipefail

readonly ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly USUAL_PLACE=/usr/src/tensorrt/bin/trtexec
# As trtexec writes 10.12.0.
readonly LEAST_VERSION=101200

fail() {
    printf 'export_tensorrt: error: %s\n' "$2" >&2
    exit "$1"
}

find_program() {
    local candidate
    for candidate in "$@"; do
        if command -v "$candidate" >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
}

# Names what is missing, all of it in one line.
check_machine() {
    local missing=()
    [ -n "$1" ] ||
        missing+=("trtexec (install TensorRT 10.12 or later from NVIDIA, then set TRTEXEC or PATH)")
    nvidia-smi -L 2>/dev/null | grep -q '^GPU ' ||
        missing+=("an NVIDIA GPU with its driver (run this where nvidia-smi -L lists one)")
    case ${#missing[@]} in
        0) ;;
        1) fail 3 "this needs ${missing[0]}" ;;
        *) fail 3 "this needs ${missing[0]}, and ${missing[1]}" ;;
    esac
    local version
    version=$("$1" --help 2>&1 | sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)
    [ "${version:-0}" -ge "$LEAST_VERSION" ] ||
        fail 3 "this needs TensorRT 10.12 or later, not ${version:-a version that trtexec does not tell}: install a newer one from NVIDIA"
}

main() {
    local trtexec g2p arguments argument plan
    trtexec=$(find_program ${TRTEXEC:+"$TRTEXEC"} trtexec "$USUAL_PLACE")
    check_machine "$trtexec"
    g2p=$(find_program ${G2P:+"$G2P"} "$ROOT/.venv/bin/g2p" g2p)
    [ -n "$g2p" ] || fail 3 "this needs the command g2p: make setup"

    arguments=$("$g2p" export-tensorrt --show-arguments "$@")
    mapfile -t arguments <<<"$arguments"
    for argument in "${arguments[@]}"; do
        case $argument in
            --saveEngine=*) plan=${argument#--saveEngine=} ;;
        esac
    done
    # shellcheck disable=SC2064 # the file's name is wanted as it is now
    trap "rm -f '$plan'" EXIT
    "$trtexec" "${arguments[@]}"
    "$g2p" export-tensorrt --engine "$plan" "$@"
}

main "$@"
