#!/usr/bin/env bash
# A long campaign in the simulator: seed after seed of random faults and misbehaviour, one process per core.
#
#   scripts/simulate.sh [--minutes M] [--n N] [--duration TIME] [--first SEED] [--processes P]
#   scripts/simulate.sh --compare-profiles    # the same seeds in debug and release give the same events
#
# Builds the simulator alone (no RocksDB). Ends with 1 when a seed violates an invariant; its transcript and
# the command that replays it are printed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

minutes=10 n=4 duration=12s first=0 processes=$(nproc)
compare() {
    cargo build --release -p cairn-sim --example sim
    cargo build -p cairn-sim --example sim
    local target seed release debug
    target=$(target_directory)
    for seed in 3 17 40 41 42 133 887; do
        release=$("$target/release/examples/sim" --json replay --seed "$seed")
        debug=$("$target/debug/examples/sim" --json replay --seed "$seed")
        if [ "$release" != "$debug" ]; then
            printf 'seed %s differs:\nrelease %s\ndebug   %s\n' "$seed" "$release" "$debug" >&2
            exit 1
        fi
        echo "seed $seed: the same in debug and release: $release"
    done
}

target_directory() {
    cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

while [ $# -gt 0 ]; do
    case $1 in
        --compare-profiles)
            compare
            exit 0
            ;;
        --minutes) minutes=$2 ;;
        --n) n=$2 ;;
        --duration) duration=$2 ;;
        --first) first=$2 ;;
        --processes) processes=$2 ;;
        *)
            echo "unknown argument $1; expected --minutes, --n, --duration, --first or --processes or --compare-profiles" >&2
            exit 2
            ;;
    esac
    shift 2
done

cargo build --release -p cairn-sim --example sim
target=$(target_directory)
echo "$processes processes for $minutes minutes: n = $n, $duration of faults each, from seed $first"
pids=()
for process in $(seq 0 $((processes - 1))); do
    # Each process has a billion seeds to itself.
    "$target/release/examples/sim" seeds --n "$n" --duration "$duration" --minutes "$minutes" \
        --first $((first + process * 1000000000)) &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
done
exit "$status"
