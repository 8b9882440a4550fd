#!/usr/bin/env bash
# kill -9 of real validators under load, again and again: scripts/crash_loop.sh [CRASHES] [SEED]
# Every node must be ready again within 10 s, and every invariant that shows from outside must hold.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

prepare
build_cairn
cargo build --release --locked --workspace --example crash_loop --quiet
exec "$CARGO_TARGET_DIR/release/examples/crash_loop" "$CARGO_TARGET_DIR/release/cairn" "${1:-300}" "${2:-1}"
