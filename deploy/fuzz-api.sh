#!/usr/bin/env bash
# Asks a Spinor of its own what its OpenAPI document allows and what it does not, for a while, with schemathesis:
# no answer may be a fault (5xx), none may be one that the document does not name.
#   deploy/fuzz-api.sh [SECONDS] [SEED]          300 seconds, seed 1
# The Spinor is $SPINOR, else target/debug/spinor; it is embedded, in a scratch directory, and ends with this. schemathesis
# is $SCHEMATHESIS, else the one of the path, else it is installed into a virtual environment in the cache
# (SPINOR_CACHE, else $XDG_CACHE_HOME/spinor, else ~/.cache/spinor). Left out are streams, which have no end, what stops
# consumers or the work of all, and what writes files where it is told.
# The exit code is 0 when nothing was wrong; else the report names each request as a line for curl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit ;; esac
seconds=${1:-300} seed=${2:-1}
[[ $seconds =~ ^[0-9]+$ && $seed =~ ^[0-9]+$ ]] || { echo "usage: deploy/fuzz-api.sh [SECONDS] [SEED]" >&2; exit 2; }

spinor=$(realpath "${SPINOR:-target/debug/spinor}")
[[ -x $spinor ]] || { echo "$spinor is not there: cargo build, or set SPINOR" >&2; exit 2; }
program=${SCHEMATHESIS:-$(command -v schemathesis || true)}
if [[ -z $program ]]; then
  home=${SPINOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spinor}/schemathesis
  [[ -x $home/bin/schemathesis ]] || { python3 -m venv "$home" && "$home/bin/pip" install --quiet 'schemathesis>=4,<5'; }
  program=$home/bin/schemathesis
fi

scratch=$(mktemp -d)
pid=''
leave() {
  if [[ -n $pid ]]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  rm -rf "$scratch"
}
trap leave EXIT
printf "data = 'data'\n[api]\nlisten = '127.0.0.1:0'\ntoken = 'fuzz-fuzz'\n[log]\nlevel = 'warn'\n" >"$scratch/spinor.toml"
(cd "$scratch" && exec env -i PATH="$PATH" "$spinor" up --json >told 2>log) &
pid=$!
for _ in $(seq 600); do
  base=$(grep -o 'http://127[^"/]*' "$scratch/told" 2>/dev/null | head -n 1) && [[ -n $base ]] && break
  kill -0 "$pid" 2>/dev/null || { cat "$scratch/log" >&2; exit 1; }
  sleep 0.1
done
[[ -n ${base:-} ]] || { echo "no answer within a minute" >&2; exit 1; }

left_out=()
for name in streamEvents streamPulse drainConsumer drainGroup pauseQueue backUpData removeDead logOut; do
  left_out+=(--exclude-operation-id "$name")
done
code=0
(cd "$scratch" && "$program" run "$base/api/v1/openapi.json" -H 'Authorization: Bearer fuzz-fuzz' \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
  --phases examples,coverage,fuzzing --max-time "$seconds" --seed "$seed" --request-timeout 30 --continue-on-failure --no-shrink \
  --warnings off --suppress-health-check all --generation-database none --output-truncate false --no-color "${left_out[@]}") || code=$?
kill -0 "$pid" 2>/dev/null || { echo "the Spinor has ended meanwhile:" >&2; tail -n 20 "$scratch/log" >&2; exit 1; }
if grep -i panicked "$scratch/log"; then exit 1; fi
exit "$code"
