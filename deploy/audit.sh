#!/usr/bin/env bash
# Known vulnerabilities in the dependencies, by whichever tool is installed.
# The list comes from outside: when it cannot be had, that is said and the code is 3, not 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo deny --version >/dev/null 2>&1; then
  tool=(cargo deny --all-features check advisories)
elif cargo audit --version >/dev/null 2>&1; then
  tool=(cargo audit)
else
  echo "audit: NOT DONE: neither cargo-deny nor cargo-audit is installed. Run: cargo install cargo-deny --locked" >&2
  exit 3
fi
echo "audit: ${tool[*]}"
code=0
"${tool[@]}" 2>&1 | tee "$log" || code=$?
if (( code )) && grep -qiE "failed to (fetch|clone|load|update|open) .*(advisor|database|repo)|couldn't fetch|fetching.*failed|network|resolve host" "$log"; then
  echo "audit: NOT DONE: the advisory list could not be fetched" >&2
  exit 3
fi
exit "$code"
