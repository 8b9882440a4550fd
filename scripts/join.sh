#!/usr/bin/env bash
# How fast a new node joins with a snapshot, and how fast by replay: scripts/join.sh [BLOCKS]
# The default of 5,000 blocks takes a minute. Of few thousands a snapshot is hardly quicker than replay.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

prepare
build_cairn
cargo build --release --locked --workspace --example join --quiet
exec "$CARGO_TARGET_DIR/release/examples/join" "$CARGO_TARGET_DIR/release/cairn" "${1:-5000}"
