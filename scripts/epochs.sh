#!/usr/bin/env bash
# Epoch after epoch in the simulated cluster, its validators changing each time; prints figures.
#
#   scripts/epochs.sh [EPOCHS] [VALIDATORS]      # 10000 epochs of 1 and of 4 validators when left out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAIRN_EPOCHS="${1:-10000}"
[ $# -lt 2 ] || export CAIRN_SEATS="$2"
exec cargo test --release --locked -p cairn-consensus --test simulation ten_thousand -- --ignored --nocapture
