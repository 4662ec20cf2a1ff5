#!/usr/bin/env bash
# Checks the built wheel as its user meets it: alone, in a new environment, from an empty folder.
#
#   scripts/check_wheel.sh MODEL.onnx    the model is one that `g2p train` made
#
# Needs dist/ as `make wheel` leaves it: one wheel, one source archive.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'check_wheel: error: %s\n' "$*" >&2
    exit 1
}

list_files() { .venv/bin/python -m zipfile --list "$1" | awk 'NR > 1 {print $1}' | grep -v dist-info | sort; }

main() {
    [ $# -eq 1 ] && [ -f "$1" ] || fail "no model at '${1:-}': the end-to-end test makes it, so run make pytest first"
    local model wheel archive work answers folder runtime status
    model=$(realpath "$1")
    wheel=$(realpath dist/*.whl)
    archive=$(realpath dist/*.tar.gz)
    runtime=$PWD/build/onnxruntime
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder's name is wanted as it is now
    trap "rm -rf '$work'" EXIT

    list_files "$wheel" >"$work/in_wheel"
    grep -qx 'grapheme_to_phoneme/py.typed' "$work/in_wheel" || fail "the wheel has no py.typed"
    for folder in configs web; do
        diff <(cd "$folder" && find . -type f ! -name '*.pyc' | sed "s#^\./#grapheme_to_phoneme/$folder/#" | sort) \
            <(grep "^grapheme_to_phoneme/$folder/" "$work/in_wheel") || fail "the wheel's $folder differ from the repository's"
    done
    ! grep -v '^grapheme_to_phoneme/' "$work/in_wheel" || fail "the wheel installs the files above outside the package"

    .venv/bin/python -m pip -qq wheel --no-deps --wheel-dir "$work/from_archive" "$archive"
    diff "$work/in_wheel" <(list_files "$work"/from_archive/*.whl) || fail "the source archive builds another wheel"

    .venv/bin/python -m venv "$work/venv"
    "$work/venv/bin/python" -m pip -qq install "$wheel"
    mkdir "$work/empty"
    cd "$work/empty"
    for package in torch lightning mlflow dvc onnx; do
        ! "$work/venv/bin/python" -c "import $package" 2>/dev/null || fail "the base install brings $package along"
    done
    "$work/venv/bin/g2p" --help >/dev/null || fail "g2p --help fails"
    answers=$("$work/venv/bin/g2p" infer --model "$model" rest stone) || fail "g2p infer fails"
    printf '%s\n' "$answers"
    [ "$(grep -cE "^(rest|stone)"$'\t'"[^[:space:]]" <<<"$answers")" = 2 ] || fail "g2p infer does not answer both words"
    # Nothing in this environment, and nothing on the path, can fetch ONNX Runtime for browsers; the tests have done it.
    status=0
    PATH=$work/venv/bin g2p demo --model "$model" --output site "demo.runtime.directory=$work/nowhere" 2>message || status=$?
    cat message
    { [ "$status" = 3 ] && grep -q "pip install 'grapheme-to-phoneme\[demo\]', or put" message; } || fail "g2p demo does not say what is missing"
    PATH=$work/venv/bin g2p demo --model "$model" --output site "demo.runtime.directory=$runtime" || fail "g2p demo fails"
    [ -f site/index.html ] && [ -f site/model.onnx ] || fail "g2p demo does not write the page"
    printf 'check_wheel: %s predicts by itself\n' "$(basename "$wheel")"
}

main "$@"
