#!/usr/bin/env bash
# A local network of real validators, and the story of one batch from submission to offline proof.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"

usage() {
    cat <<'USAGE'
usage: scripts/testnet.sh [VERB] [OPTIONS]

Without a verb: installs what is missing, builds, starts four validators on this machine, anchors the
project's own dependency checksums and source files, checks the receipts offline with the network
stopped, starts it again and leaves it running.

  up               build, create (the first time) and start the network
  demo             the story above, on a new or an existing network
  add-follower     add and start a node without a validator key
  down             stop every node
  status           what each node is doing
  kill N           kill -9 node N
  restart N        stop node N if it runs, and start it again
  clean            stop the network and delete its directory

  --validators N   number of validators (4)              } when the network
  --scheme S       dilithium3 or ml-dsa-65 (dilithium3)  } is first created
  --base-port P    node i uses P + 10*i to P + 10*i + 4 (27000; 0 = find free ones)
  --dir D          where the network lives (.testnet in the project)
  --json           machine-readable answers

The build goes to $CARGO_TARGET_DIR, by default ~/.cache/cairn/target.
USAGE
}

verb=demo
case "${1:-}" in
    -h | --help | help)
        usage
        exit 0
        ;;
    up | demo | add-follower | down | status | kill | restart | clean)
        verb=$1
        shift
        ;;
    '' | -*) ;;
    *)
        usage >&2
        die "unknown verb '$1'"
        ;;
esac

arguments=("$@")
has_option() {
    local argument
    for argument in ${arguments[@]+"${arguments[@]}"}; do
        case "$argument" in "$1" | "$1"=*) return 0 ;; esac
    done
    return 1
}
if has_option -h || has_option --help; then
    usage
    exit 0
fi
has_option --dir || arguments+=(--dir "$root/.testnet")

cd "$root"
case "$verb" in
    up | demo | add-follower)
        prepare
        build_cairn
        ;;
    *)
        export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cairn/target}"
        [ -x "$CARGO_TARGET_DIR/release/cairn" ] ||
            die "cairn is not built yet ($CARGO_TARGET_DIR/release/cairn is missing): run scripts/testnet.sh first"
        ;;
esac
if [ "$verb" = demo ]; then
    has_option --source || arguments+=(--source "$root")
fi
exec "$CARGO_TARGET_DIR/release/cairn" testnet "$verb" "${arguments[@]}"
