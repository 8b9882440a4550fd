# Sourced by testnet.sh and test.sh: finds or installs what a build needs, and says why.
# shellcheck shell=bash

# The oldest Rust that builds the project (rust-version in Cargo.toml).
rust_minor_min=90
# A first build fills the target directory with about 4 GB; a later one adds little.
first_build_mib=6000
later_build_mib=1000

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && return 0
    compgen -G '/usr/lib*/libclang*.so*' >/dev/null && return 0
    compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

# Prints the Debian packages that are missing, one per line.
missing_packages() {
    has clang || echo clang
    has_libclang || echo libclang-dev
    has c++ || has g++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || echo ca-certificates
}

why_package() {
    case "$1" in
        clang | libclang-dev) echo "RocksDB's Rust bindings are generated with it" ;;
        g++) echo "RocksDB is C++ and is compiled from source" ;;
        make) echo "some C dependencies call it" ;;
        pkg-config) echo "finds system libraries during the build" ;;
        ca-certificates) echo "cargo fetches crates over HTTPS" ;;
        *) echo "needed to build" ;;
    esac
}

install_system_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -eq 0 ] && return 0
    step "Installing ${#missing[@]} system package(s) that the build needs"
    local package
    for package in "${missing[@]}"; do
        say "  $package: $(why_package "$package")"
    done
    has apt-get || die "this is not a Debian system (no apt-get): please install the equivalents of: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || die "installing packages needs root and there is no sudo: run as root 'apt-get install ${missing[*]}', then start this again"
        as_root=(sudo)
        say "  (sudo may ask for your password)"
    fi
    "${as_root[@]}" apt-get update -qq ||
        die "apt-get update failed: check the network connection and /etc/apt/sources.list, then start this again"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get could not install: ${missing[*]}; its messages are above"
}

check_rust() {
    if ! has cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    local how="install it with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    has cargo && has rustc || die "Rust is missing (1.$rust_minor_min or newer): $how"
    local version minor
    version=$(rustc --version 2>/dev/null | awk '{print $2}')
    minor=$(printf '%s' "$version" | cut -d. -f2)
    case "$minor" in
        '' | *[!0-9]*) die "'rustc --version' does not answer with a version: $how" ;;
    esac
    [ "$minor" -ge "$rust_minor_min" ] ||
        die "Rust $version is too old, 1.$rust_minor_min or newer is needed: run 'rustup update stable', or $how"
}

free_mib() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }

check_disk() {
    mkdir -p "$CARGO_TARGET_DIR" 2>/dev/null ||
        die "cannot create the build directory $CARGO_TARGET_DIR: set CARGO_TARGET_DIR to one you may write to"
    local need=$first_build_mib free
    [ -d "$CARGO_TARGET_DIR/release/deps" ] && need=$later_build_mib
    free=$(free_mib "$CARGO_TARGET_DIR")
    [ "$free" -ge "$need" ] ||
        die "only $free MiB are free where $CARGO_TARGET_DIR lies and the build wants $need: free some space, or set CARGO_TARGET_DIR to another disk"
}

# Everything before the first `cargo` command. Exports CARGO_TARGET_DIR.
prepare() {
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cairn/target}"
    install_system_packages
    check_rust
    check_disk
}

build_cairn() {
    step "Building cairn in release mode"
    say "  into $CARGO_TARGET_DIR"
    [ -x "$CARGO_TARGET_DIR/release/cairn" ] ||
        say "  the first build takes 15 to 25 minutes on two cores, most of it RocksDB; later ones take seconds"
    local began=$SECONDS
    cargo build --release --locked --workspace --bin cairn ||
        die "the build failed; cargo's messages are above"
    say "  built in $((SECONDS - began)) s: $CARGO_TARGET_DIR/release/cairn"
}
