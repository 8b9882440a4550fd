#!/usr/bin/env bash
# Instructions of each stage of a transaction's and a vote's way, counted under valgrind: unlike times, counts do not
# wobble with the machine's load, so a change of a hundredth is a change of the code.
#
#   scripts/instructions.sh [STAGE ...]      all stages by default; `--list` names them
#
# They are of the processor features that valgrind knows (AVX2), not of this machine's.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

has valgrind || die "instructions are counted by valgrind: please install it (Debian: apt-get install valgrind)"
prepare
cargo build --release --locked --workspace --example instructions --quiet
program="$CARGO_TARGET_DIR/release/examples/instructions"
[ "${1:-}" != --list ] || exec "$program"
stages=("$@")
[ $# -gt 0 ] || mapfile -t stages < <("$program")

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
printf '%-46s %s\n' stage instructions
for stage in "${stages[@]}"; do
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
        '--toggle-collect=*instructions::measured*' "$program" "$stage" >"$answer" 2>"$answer.log" ||
        { cat "$answer.log" >&2; rm -f "$answer.log"; die "stage '$stage' failed under valgrind"; }
    counted=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$answer.log")
    rm -f "$answer.log"
    runs=$(cat "$answer")
    [ "${counted:-0}" -gt 0 ] || die "nothing was counted for stage '$stage'"
    printf '%-46s %d\n' "$stage" $((counted / runs))
done
