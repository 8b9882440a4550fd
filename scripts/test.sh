#!/usr/bin/env bash
# Everything that must pass before a change is accepted: format, lints, tests, documentation, and a
# network of real processes from start to offline verification. One build profile (release) throughout,
# so that RocksDB is compiled once.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/install.sh
source "$root/scripts/install.sh"
cd "$root"

prepare
cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
    die "rustfmt or clippy is missing: run 'rustup component add rustfmt clippy'"
has openssl || die "openssl is missing: the tests run time authorities with it ('apt-get install openssl')"

step "Format"
cargo fmt --all --check || die "the code is not formatted: run 'cargo fmt --all'"

step "Lints: clippy, warnings are errors"
cargo clippy --release --locked --workspace --all-targets -- -D warnings
cargo clippy --release --locked --workspace --features cairn-node/bench-modes -- -D warnings

if ! cargo nextest --version >/dev/null 2>&1; then
    step "Installing cargo-nextest: runs tests in processes of their own and limits those that start networks"
    cargo install cargo-nextest --locked || say "warning: cargo-nextest could not be installed"
fi
if cargo nextest --version >/dev/null 2>&1; then
    step "Tests: nextest"
    cargo nextest run --release --locked --workspace
else
    # One test at a time: without nextest's groups, networks of processes would compete for two cores.
    step "Tests: WITHOUT nextest (it could not be installed), by 'cargo test', one at a time"
    cargo test --release --locked --workspace --lib --bins --tests -- --test-threads 1
fi

step "Documentation tests"
cargo test --release --locked --workspace --doc --quiet

step "Documentation: broken links are errors"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --quiet

build_cairn
cairn="$CARGO_TARGET_DIR/release/cairn"

step "A real network, from start to offline verification"
scratch=$(mktemp -d)
leave() {
    status=$?
    "$cairn" testnet down --dir "$scratch/network" >/dev/null 2>&1 || true
    if [ "$status" -eq 0 ]; then
        rm -rf "$scratch"
    else
        say "the network's logs are kept in $scratch/network"
    fi
}
trap leave EXIT
for scheme in dilithium3 ml-dsa-65; do
    "$cairn" testnet demo --dir "$scratch/network" --base-port 0 --source "$root" --scheme "$scheme"
    if [ "$scheme" = ml-dsa-65 ]; then
        step "Its receipts and exports, checked by programs that share no code with Cairn"
        status=0
        "$root/scripts/independent.sh" "$scratch/network" || status=$?
        case "$status" in
            0) ;;
            3) say "warning: NOT CHECKED: the Python packages are missing" ;;
            *) die "an independent verifier disagrees" ;;
        esac
    fi
    "$cairn" testnet clean --dir "$scratch/network"
done

step "All checks passed in $SECONDS s"
