#!/usr/bin/env bash
# The figures of docs/PERFORMANCE.md, measured on this machine in one run of about four minutes:
# a network of four validators on loopback, the load generator on the same cores, nothing switched off.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

rate=${RATE:-1500}
transactions=${TRANSACTIONS:-100000}

prepare
build_cairn
cargo build --release --locked --workspace --example batch_tree --quiet
cairn="$CARGO_TARGET_DIR/release/cairn"
scratch=$(mktemp -d)
trap '"$cairn" testnet clean --dir "$scratch/network" >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT

nodes() { cat "$scratch"/network/node-*.pid; }
cpu_ticks() { for pid in $(nodes); do awk '{ print $14 + $15 }' "/proc/$pid/stat"; done | awk '{ s += $1 } END { print s }'; }

step "Batch tree of 2^20 leaves"
"$CARGO_TARGET_DIR/release/examples/batch_tree" 20

step "The demonstration: one batch, its receipts, their offline verification"
"$cairn" testnet demo --dir "$scratch/network" --base-port 0 --source "$root" | grep -E ' ms|bytes|kB' || true

step "An idle network"
before=$(cpu_ticks)
sleep 30
after=$(cpu_ticks)
awk -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" \
    'BEGIN { printf "CPU of an idle node: %.2f %% of a core (mean of four over 30 s)\n", t / hz / 30 / 4 * 100 }'

step "Single anchors, one after another"
"$cairn" load --dir "$scratch/network" --single 300

step "Sustained load: $transactions transactions at $rate/s"
"$cairn" load --dir "$scratch/network" --rate "$rate" --duration $((transactions / rate)) --warmup 5 --connections 32

step "Memory and disk after that"
for pid in $(nodes); do awk '/VmRSS/ { printf "resident: %.0f MiB\n", $2 / 1024 }' "/proc/$pid/status"; done
"$cairn" testnet down --dir "$scratch/network" >/dev/null
anchors=$((transactions / rate * rate + 5 * rate + 301))
for data in "$scratch"/network/node-*/data; do
    du -sb "$data" | awk -v n="$anchors" '{ printf "database: %.0f MB, %.0f bytes per anchor\n", $1 / 1e6, $1 / n }'
done
