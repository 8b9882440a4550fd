#!/usr/bin/env bash
# Receipts and exports of a running ml-dsa-65 network, checked by programs that share no code with Cairn:
# scripts/verify_receipt.py and verify_exports.py over Python packages; and receipts that examples/python/proof_server.py makes,
# checked by Cairn. Ends with 1 when a true one is refused or a false one accepted, and with 3 when the packages cannot be had.
#
#   scripts/testnet.sh --scheme ml-dsa-65 && scripts/independent.sh      [DIR, by default .testnet]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cairn/target}"
cairn="$CARGO_TARGET_DIR/release/cairn"
network=${1:-$root/.testnet}
[ -x "$cairn" ] || die "cairn is not built yet: run scripts/testnet.sh --scheme ml-dsa-65 first"
[ -f "$network/network.json" ] || die "there is no network in $network: run scripts/testnet.sh --scheme ml-dsa-65 first"
grep -q '"ml-dsa-65"' "$network/network.json" ||
    die "the network in $network signs with dilithium3, which no Python package verifies: make one with --scheme ml-dsa-65"

packages=(blake3==1.0.11 cryptography==50.0.2 cbor2==6.2.1 opentimestamps==0.4.5)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/cairn/python"
python="$venv/bin/python"
if ! "$python" -c 'import blake3, cbor2, opentimestamps; from cryptography.hazmat.primitives.asymmetric import mldsa' 2>/dev/null; then
    say "  installing ${packages[*]} in $venv"
    { python3 -m venv "$venv" && "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}"; } >&2 || {
        say "warning: the Python packages could not be installed (python3-venv and a package index are needed)"
        exit 3
    }
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
genesis="$network/genesis.json"
receipt_check() { "$python" "$root/scripts/verify_receipt.py" "$genesis" "$1"; }
# Runs a check that must refuse: exit code 1 and nothing else.
refused() {
    local status=0
    "$@" >"$work/answer" 2>&1 || status=$?
    [ "$status" -eq 1 ] || { cat "$work/answer" >&2; die "it was not refused (exit code $status): $*"; }
}

say "  vectors: $("$python" "$root/scripts/verify_receipt.py" --vectors "$root/types/vectors/receipts.json" | tail -1)"

receipts=("$network"/receipts/*.cairn)
[ -f "${receipts[0]}" ] || die "there are no receipts in $network/receipts: run scripts/testnet.sh --scheme ml-dsa-65 first"
checked=0
for ((i = 0; i < ${#receipts[@]}; i += (${#receipts[@]} + 9) / 10)); do
    receipt_check "${receipts[i]}" >/dev/null || die "a true receipt was refused: ${receipts[i]}"
    "$python" - "${receipts[i]}" "$work/false.cairn" <<'PY'
import json, sys
receipt = json.load(open(sys.argv[1]))
digest = receipt["subject"]["digest"]
receipt["subject"]["digest"] = ("0" if digest[0] != "0" else "1") + digest[1:]
json.dump(receipt, open(sys.argv[2], "w"))
PY
    refused receipt_check "$work/false.cairn"
    checked=$((checked + 1))
done
say "  receipts: $checked of ${#receipts[@]} valid; each refused with one digit changed"

# A file of our own, in the tree that other tools know.
urls=$("$cairn" testnet status --dir "$network" --json |
    "$python" -c 'import json, sys; print(*[n["rpc"] for n in json.load(sys.stdin)["nodes"] if n["pid"]][:3], sep=",")')
[ -n "$urls" ] || die "no node of $network runs: start it with scripts/testnet.sh up"
head -c 4096 /dev/urandom >"$work/paper"
"$cairn" stamp "$work/paper" --sha256 --tree rfc9162-sha256 --url "${urls%%,*}" --genesis "$genesis" \
    --key "$network/sender.json" --passphrase-file "$network/passphrase" --home "$work/home" >/dev/null
receipt_check "$work/paper.cairn" >/dev/null
for format in tlog-proof cose ots; do
    "$cairn" receipt export "$work/paper.cairn" --format "$format" --url "$urls" --genesis "$genesis" --home "$work/home" >/dev/null
done
export_check() { "$python" "$root/scripts/verify_exports.py" "$work/paper.cairn" "$work/paper"; }
export_check | sed 's/^/  /' >&2

# Each export with one byte changed, put back after: in a tlog-proof within the first signature, whose key is known here.
for file in paper.cairn.tlog-proof paper.cairn.cose paper.cairn.ots; do
    cp "$work/$file" "$work/kept"
    "$python" - "$work/$file" <<'PY'
import sys
bytes_ = bytearray(open(sys.argv[1], "rb").read())
dash = bytes_.find("\u2014 ".encode())
place = len(bytes_) * 2 // 3 if dash < 0 else bytes_.index(b"\n", dash) - 20
bytes_[place] = ord("B") if bytes_[place] == ord("A") else ord("A")
open(sys.argv[1], "wb").write(bytes_)
PY
    refused export_check
    cp "$work/kept" "$work/$file"
done
export_check >/dev/null
say "  exports: each refused with one byte changed"

# A proof server in Python alone: its receipts are Cairn's. It meets a dead node first, and goes on from what it kept.
server() { "$python" "$root/examples/python/proof_server.py" "$@" --key "$work/server.pem" --out "$work/served"; }
status=0
server anchor --url http://127.0.0.1:1 --patience 0 "$root"/LICENSE-* "$root/README.md" >"$work/answer" 2>&1 || status=$?
[ "$status" -eq 1 ] && grep -q "does not answer" "$work/answer" || die "a proof server without a node: $(cat "$work/answer")"
kept=("$work"/served/batch-*.json)
cp "${kept[0]}" "$work/again.json"
server finish --url "${urls%%,*}" "${kept[0]}" >/dev/null
records() { "$python" -c 'import json, sys; print(*{json.load(open(path))["record"] for path in sys.argv[1:]})' "$work"/served/*.cairn; }
first=$(records)
server finish --url "${urls%%,*}" "$work/again.json" >/dev/null || die "a batch that is anchored was not found again"
[ "$(records)" = "$first" ] || die "a batch that was anchored before has another record now"
for file in "$root"/LICENSE-* "$root/README.md"; do
    receipt="$work/served/$(basename "$file").cairn"
    "$cairn" verify "$file" --receipt "$receipt" --genesis "$genesis" >/dev/null || die "cairn refuses $receipt"
    receipt_check "$receipt" >/dev/null || die "a true receipt was refused: $receipt"
done
say "  a proof server in Python: interrupted, finished, found again; its receipts verify"
