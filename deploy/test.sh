#!/usr/bin/env bash
# Runs the tests over real, private servers: starts them, awaits them, always ends them.
#   deploy/test.sh --check              the checks first, while the servers come up, then all tests
#   deploy/test.sh [CARGO TEST ARGUMENTS]   for instance: deploy/test.sh --test spinor conformance
# A server whose URL the caller has set already (SPINOR_TEST_RABBITMQ_URL, SPINOR_TEST_MYSQL_URL,
# SPINOR_TEST_REDIS_URL, SPINOR_TEST_SEARCH_URL, SPINOR_TEST_S3_URL with SPINOR_TEST_S3_BUCKETS) is used as it is. SPINOR_TEST_SQL, SPINOR_TEST_ENGINE: the kind of
# database and of search server (mariadb, elasticsearch), also of those that a test starts for itself.
# SPINOR_SERVER_ROOT: a chroot whose programs are the servers. SPINOR_TEST_SOAK=1: the long forms.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=''
if [[ ${1:-} == --check ]]; then check=yes; shift; fi

servers=$PWD/deploy/servers
scratch=$(mktemp -d "${TMPDIR:-/tmp}/spinor-test.XXXXXXXX")
chmod 755 "$scratch" # the servers run as another user when we are root
declare -A starting=()

finish() {
  local code=$? directory pid
  trap - EXIT INT TERM
  for pid in "${starting[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  for directory in "$scratch"/*/; do
    [[ -f $directory/state ]] || continue
    if (( code )); then "$servers" leave "$directory" || true; else "$servers" remove "$directory" || code=1; fi
  done
  if (( code )); then
    echo "test: failed ($code); logs and data are kept in $scratch" >&2
  else
    rm -rf "$scratch"
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts server $2 as $1 unless variable $3 names one already.
begin() {
  [[ -z ${!3:-} ]] || { echo "test: $3 is set: using that server"; return 0; }
  "$servers" start "$2" "$scratch/$1" --owner $$ >"$scratch/$1.start" 2>&1 </dev/null &
  starting[$1]=$!
}

# What server $1 said as $2.
detail() { sed -n "s/^$2=//p" "$scratch/$1.start"; }

# Awaits server $1 and exports its url as variable $2.
await() {
  local pid=${starting[$1]:-}
  [[ -n $pid ]] || return 0
  unset "starting[$1]"
  wait "$pid" || { cat "$scratch/$1.start" >&2; exit 1; }
  export "$2=$(detail "$1" url)"
}

if [[ -z ${SPINOR_TEST_RABBITMQ_URL:-} || -z ${SPINOR_TEST_MYSQL_URL:-} || -z ${SPINOR_TEST_REDIS_URL:-} || -z ${SPINOR_TEST_SEARCH_URL:-} || -z ${SPINOR_TEST_S3_URL:-} ]]; then
  [[ -n ${SPINOR_SERVER_ROOT:-} ]] || deploy/packages.sh
fi
begin rabbitmq rabbitmq SPINOR_TEST_RABBITMQ_URL
begin sql "${SPINOR_TEST_SQL:-mariadb}" SPINOR_TEST_MYSQL_URL
begin redis redis SPINOR_TEST_REDIS_URL
begin s3 s3 SPINOR_TEST_S3_URL
begin search "${SPINOR_TEST_ENGINE:-elasticsearch}" SPINOR_TEST_SEARCH_URL

[[ -z $check ]] || deploy/check.sh </dev/null

# Built before anything is awaited, so that compiling and starting overlap and a broken build ends here.
arguments=("$@")
(( $# )) || arguments=(--no-fail-fast)
build=()
for argument in "${arguments[@]}"; do [[ $argument == -- ]] && break; build+=("$argument"); done
cargo test --workspace --locked --no-run --quiet "${build[@]}" </dev/null
# A single suite does not build the examples, and one of its tests runs them.
[[ ${#build[@]} -eq 0 || ${build[*]} == --no-fail-fast ]] || cargo build --workspace --locked --quiet --examples </dev/null

await rabbitmq SPINOR_TEST_RABBITMQ_URL
await sql SPINOR_TEST_MYSQL_URL
await redis SPINOR_TEST_REDIS_URL
await search SPINOR_TEST_SEARCH_URL
await s3 SPINOR_TEST_S3_URL
export SPINOR_TEST_S3_BUCKETS=${SPINOR_TEST_S3_BUCKETS:-$(detail s3 buckets 2>/dev/null)}
export SPINOR_TEST_SERVERS=$servers SPINOR_TEST_SCRATCH=$scratch

# Tests wait more than they compute, but each private server of a fault test costs memory.
threads=$(( 2 * $(nproc) ))
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(( threads > 8 ? 8 : threads ))}
echo "test: servers are up after $SECONDS s, $RUST_TEST_THREADS tests at a time"
cargo test --workspace --locked "${arguments[@]}" </dev/null
