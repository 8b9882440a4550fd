#!/usr/bin/env bash
# What checking signatures, syncing and executing cost: the peak of four validators on this machine with each left
# out, beside the peak of the ordinary build, at two sizes of transaction.
#
#   scripts/bench_modes.sh [SECONDS] [OUTPUT]      SECONDS measured in each of ten steps (default 15)
#
# Leaving steps out takes a benchmark build (feature bench-modes), which joins no network whose name does not begin
# with bench-. It is built into the same folder and kept apart; the ordinary build is in place again afterwards.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

seconds=${1:-15}
output=${2:-$root/target/bench-modes}
case $seconds in '' | *[!0-9]*) die "SECONDS is '$seconds'; expected a whole number, for instance: scripts/bench_modes.sh 15" ;; esac
has python3 || die "the tables are made by Python 3: please install python3"
prepare
mkdir -p "$output"
step "Building cairn as a benchmark build"
cargo build --release --locked --workspace --bin cairn --features cairn-node/bench-modes
cp "$CARGO_TARGET_DIR/release/cairn" "$output/cairn-bench"
build_cairn
exec python3 "$root/scripts/bench.py" --cairn "$CARGO_TARGET_DIR/release/cairn" --modes "$output/cairn-bench" \
    --seconds "$seconds" --output "$output"
