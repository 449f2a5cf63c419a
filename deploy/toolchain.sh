#!/usr/bin/env bash
# Checks what building needs, Rust and a C compiler, and prints the lines that install what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
wrong=0
if ! version=$(cargo --version 2>/dev/null); then
  if command -v rustup >/dev/null; then
    echo "Rust is missing, $least or newer is needed. Run: rustup default stable"
  else
    echo "Rust is missing, $least or newer is needed. Install rustup as https://rustup.rs says; it brings the stable toolchain."
  fi
  wrong=1
else
  version=$(cut -d' ' -f2 <<<"$version")
  if [[ $(printf '%s\n%s\n' "$least" "$version" | sort -V | head -n1) != "$least" ]]; then
    echo "Rust $version is too old, $least is needed. Run: rustup update stable"
    wrong=1
  fi
  for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || echo "cargo $component is missing, for 'make check'. Run: rustup component add rustfmt clippy"
  done
fi
if ! command -v cc >/dev/null; then
  echo "A C compiler is missing (SQLite and ring are built with it). Run as root: apt-get install --no-install-recommends gcc libc6-dev"
  wrong=1
fi
(( wrong )) || echo "Rust $version and $(cc --version | head -n1): all that building needs is here."
exit "$wrong"
