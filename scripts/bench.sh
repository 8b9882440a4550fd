#!/usr/bin/env bash
# Measures a network of four validators on this machine, the load generator on the same cores, nothing switched
# off. Prints one table and writes CSV, JSON and SVG plots. What each step costs: scripts/bench_modes.sh.
#
#   scripts/bench.sh [SECONDS] [OUTPUT]      SECONDS measured in each step (default 20), OUTPUT a folder (target/bench)
#
# About 25 steps of that length, the network made anew for each load. Environment: RATES="500 1000 ..." the
# steps of the ramp, PROOFS="1 16 256" proofs in a transaction.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

seconds=${1:-20}
output=${2:-$root/target/bench}
case $seconds in '' | *[!0-9]*) die "SECONDS is '$seconds'; expected a whole number, for instance: scripts/bench.sh 20" ;; esac
has python3 || die "the plots and tables are made by Python 3: please install python3"
prepare
build_cairn
exec python3 "$root/scripts/bench.py" --cairn "$CARGO_TARGET_DIR/release/cairn" --seconds "$seconds" --output "$output" \
    --rates "${RATES:-}" --proofs "${PROOFS:-1 16 256}"
