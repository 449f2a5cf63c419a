#!/usr/bin/env bash
# The checks that need no server: format, lints, documentation, dependencies, scripts.
# The same here and in CI; each step says its name, and the first that fails ends the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
  local begun=$SECONDS
  echo "check: $1"
  shift
  "$@" || { echo "check: failed: $*" >&2; exit 1; }
  (( SECONDS - begun < 5 )) || echo "check: took $(( SECONDS - begun )) s"
}

# Bash by its own parser; shellcheck too where it is installed.
scripts() {
  local -a all
  mapfile -t all < <(grep -rlE '^#!/usr/bin/env bash' deploy .ci; echo deploy/servers-kinds.bash)
  local script
  for script in "${all[@]}"; do bash -n "$script" || return 1; done
  if command -v shellcheck >/dev/null; then shellcheck -x "${all[@]}"; else echo "check: shellcheck is not installed: scripts are parsed only"; fi
}

dependencies() {
  if cargo deny --version >/dev/null 2>&1; then
    cargo deny --all-features --log-level error check bans licenses sources
  else
    echo "check: cargo-deny is not installed: deploy/dependencies.sh judges licences, bans and duplicates by deny.toml"
    deploy/dependencies.sh
  fi
}

step "format" cargo fmt --all --check
step "scripts" scripts
step "lints" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
# A module's page is for its next reader, too: it may name private parts.
step "documentation" env RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --quiet
step "dependencies" dependencies
