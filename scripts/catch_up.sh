#!/usr/bin/env bash
# How fast a new node catches up while the validators go on: scripts/catch_up.sh [BLOCKS]
# 100,000 blocks take an hour or so to be made; the default of 5,000 takes minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

prepare
build_cairn
cargo build --release --locked --workspace --example catch_up --quiet
exec "$CARGO_TARGET_DIR/release/examples/catch_up" "$CARGO_TARGET_DIR/release/cairn" "${1:-5000}"
