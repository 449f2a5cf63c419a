#!/usr/bin/env bash
# Checks what building needs, Rust and a C compiler, and prints the line that installs what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
wrong=0
if ! version=$(cargo --version 2>/dev/null); then
  echo "Rust is missing. Install $least or newer with rustup: rustup toolchain install stable"
  wrong=1
else
  version=$(cut -d' ' -f2 <<<"$version")
  if [[ $(printf '%s\n%s\n' "$least" "$version" | sort -V | head -n1) != "$least" ]]; then
    echo "Rust $version is too old, $least is needed. Run: rustup update stable"
    wrong=1
  fi
fi
for component in fmt clippy; do
  cargo "$component" --version >/dev/null 2>&1 || echo "cargo $component is missing, for 'make check'. Run: rustup component add rustfmt clippy"
done
if ! command -v cc >/dev/null; then
  echo "A C compiler is missing (SQLite and ring are built with it). Run: apt-get install gcc libc6-dev"
  wrong=1
fi
(( wrong )) || echo "Rust $version and $(cc --version | head -n1): all that building needs is here."
exit "$wrong"
