#!/usr/bin/env bash
# A validator whose disk fills up under load, and goes on when there is room again: scripts/full_disk.sh [MIB]
# Its database and its safety journal are on a small tmpfs (root, or a user namespace, mounts it).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mib=${1:-24}
if [ "$(id -u)" != 0 ]; then
    exec unshare --user --map-root-user --mount "$0" "$@"
fi
if [ -z "${CAIRN_BINARY:-}" ]; then
    # shellcheck source=scripts/install.sh
    source "$root/scripts/install.sh"
    (cd "$root" && prepare && build_cairn)
    CAIRN_BINARY=${CARGO_TARGET_DIR:-$root/target}/release/cairn
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/cairn-full-disk.XXXXXX")
small=$dir/small
mkdir "$small"
cairn() { "$CAIRN_BINARY" "$@"; }
end() {
    cairn testnet down --dir "$dir/net" > /dev/null 2>&1 || true
    umount "$small" 2> /dev/null || true
    rm -rf "$dir"
}
trap end EXIT
height() { cairn status --json --url "$1" | sed -n 's/.*"height": *\([0-9]*\).*/\1/p' | head -1; }
url() { cairn testnet status --dir "$dir/net" --json | grep -o 'http://127.0.0.1:[0-9]*' | sed -n "$(($1 + 1))p"; }
alive() { kill -0 "$(cat "$dir/net/node-3.pid" 2> /dev/null)" 2> /dev/null; }

cairn testnet up --dir "$dir/net" --base-port 0 > /dev/null
cairn testnet kill 3 --dir "$dir/net" > /dev/null
mount -t tmpfs -o "size=${mib}m" tmpfs "$small"
for part in data sign; do
    mv "$dir/net/node-3/$part" "$small/$part"
    ln -s "$small/$part" "$dir/net/node-3/$part"
done
cairn testnet restart 3 --dir "$dir/net" > /dev/null
echo "node 3 has $mib MiB for its database and its journal"

cairn load --dir "$dir/net" --rate 300 --duration 120 --warmup 0 --metadata 512 > /dev/null 2>&1 &
load=$!
for _ in $(seq 1200); do
    alive || break
    sleep 0.1
done
kill $load 2> /dev/null || true
wait $load 2> /dev/null || true
if alive; then
    echo "FAILED: the disk never filled: $(df -h "$small" | tail -1)"
    exit 1
fi
echo "node 3 stopped: $(grep -a -i 'disk is full\|no space\|StorageFull' "$dir/net/node-3.log" | tail -1 | cut -c1-200)"
grep -a -q -i 'disk is full\|no space' "$dir/net/node-3.log" || { echo "FAILED: it did not say why"; exit 1; }
if grep -a -q 'panicked' "$dir/net/node-3.log"; then
    echo "FAILED: it panicked"
    exit 1
fi
before=$(height "$(url 0)")
cairn load --dir "$dir/net" --single 5 > /dev/null
after=$(height "$(url 0)")
[ "$after" -gt "$before" ] || { echo "FAILED: the others stopped at $before"; exit 1; }
echo "the others went on from $before to $after"

mount -o remount,size=1g "$small"
cairn testnet restart 3 --dir "$dir/net" > /dev/null
for _ in $(seq 300); do
    now=$(height "$(url 3)" || true)
    [ "${now:-0}" -ge "$after" ] && break
    sleep 0.1
done
[ "${now:-0}" -ge "$after" ] || { echo "FAILED: with room again node 3 is at ${now:-nothing}, not at $after"; exit 1; }
echo "with room again node 3 reached height $now"
