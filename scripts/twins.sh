#!/usr/bin/env bash
# Twins: validators that run twice with one key, behind generated partitions, in the simulated cluster.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"

usage() {
    cat <<'USAGE'
usage: scripts/twins.sh [--minutes M] [--seed S] [--fault F]
       scripts/twins.sh [--seed S] --scenario N [--fault F]

The first plays distinct scenarios of campaign S (default: the time of day) for M minutes (default 10), on one
core, and prints how many were played, their seed and numbers, and what was found. It ends with 1 when anything was
found; each finding comes with the scenario, a transcript of views, leaders, votes and commits, and the command that
replays it. The second replays scenario N and prints its transcript.

  --fault F    breaks every honest node on purpose, to see that it is found: NothingPersisted, WeakQuorum,
               CommitVoteUnguarded, VoteUnguarded, NeverRepeats

The build goes to $CARGO_TARGET_DIR, by default ~/.cache/cairn/target.
USAGE
}

number() {
    [[ "$2" =~ ^[0-9]{1,18}$ ]] || die "$1 is '$2'; expected a whole number"
    printf '%s' "$((10#$2))"
}

minutes=10 seed='' scenario='' fault=''
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            usage
            exit 0
            ;;
        --minutes | --seed | --scenario | --fault)
            [ $# -ge 2 ] || die "$1 needs a value"
            case "$1" in
                --minutes) minutes=$(number "$1" "$2") ;;
                --seed) seed=$(number "$1" "$2") ;;
                --scenario) scenario=$(number "$1" "$2") ;;
                --fault) fault=$2 ;;
            esac
            shift 2
            ;;
        *)
            usage >&2
            die "unknown argument '$1'"
            ;;
    esac
done

has cargo || die "cargo is missing: run scripts/testnet.sh once, or install Rust"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cairn/target}"
export CAIRN_TWINS_FAULT=$fault RUST_BACKTRACE=0
cd "$root"
play() {
    cargo test --release --locked --quiet -p cairn-consensus --test simulation -- --exact --nocapture "$@"
}
if [ -n "$scenario" ]; then
    export CAIRN_TWINS_SEED=${seed:-1} CAIRN_TWINS_SCENARIO=$scenario
    play twins::one_scenario_replays_exactly || exit 1
else
    export CAIRN_TWINS_SEED=${seed:-$(date +%s)} CAIRN_TWINS_MINUTES=$minutes
    step "Twins: campaign $CAIRN_TWINS_SEED for $minutes minutes"
    play --ignored twins::campaign_for_a_given_time || exit 1
fi
