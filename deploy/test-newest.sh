#!/usr/bin/env bash
# Runs the suites that talk to a server on every server we can have here, old and newest, and writes
# the table in docs/compatibility.md. The newest lines of RabbitMQ and MySQL come from Debian's
# unstable packages in a chroot, kept in the download cache: a tool for people who work on Spinor
# (needs root and mmdebstrap), no part of `make test`.
#   deploy/test-newest.sh            all rows
#   deploy/test-newest.sh --chroot   only make the chroot and print its path
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "test-newest: $*" >&2; exit 1; }
(( EUID == 0 )) || fail "needs root, for the chroot"

cache=${SPINOR_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/spinor}}
chroot=${cache:-/var/cache/spinor}/newest/root

# The machine's own mirror, from either form of apt's sources.
mirror() {
  cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' | head -n1
}

if [[ ! -e $chroot/usr/sbin/mysqld ]]; then
  command -v mmdebstrap >/dev/null || fail "needs mmdebstrap: apt-get install mmdebstrap"
  mkdir -p "${chroot%/*}"
  rm -rf "$chroot" "$chroot.part"
  mmdebstrap --quiet --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase \
    --include=rabbitmq-server,mysql-server,redis-server,procps,default-jre-headless sid "$chroot.part" "deb $(mirror) sid main"
  mv "$chroot.part" "$chroot"
fi
if [[ ${1:-} == --chroot ]]; then echo "$chroot"; exit; fi

deploy/packages.sh
cargo test --workspace --locked --no-run --quiet --test spinor </dev/null

servers=$PWD/deploy/servers
scratch=$(mktemp -d "${TMPDIR:-/tmp}/spinor-newest.XXXXXXXX")
chmod 755 "$scratch"
# shellcheck disable=SC2317,SC2329
finish() {
  local code=$?
  trap - EXIT INT TERM
  for state in "$scratch"/*/state; do "$servers" remove "${state%/state}" || true; done
  (( code )) || rm -rf "$scratch"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
shopt -s nullglob

start() { "$servers" start "$@" --owner $$ >"$2.start" 2>&1 </dev/null || { cat "$2.start" >&2; exit 1; }; }
detail() { sed -n "s/^$2=//p" "$1.start"; }

# The default set, so that every row changes one server only.
start rabbitmq "$scratch/rabbitmq" & start mariadb "$scratch/sql" & start redis "$scratch/redis" & start elasticsearch "$scratch/search" &
wait
SPINOR_TEST_RABBITMQ_URL=$(detail "$scratch/rabbitmq" url)
SPINOR_TEST_MYSQL_URL=$(detail "$scratch/sql" url)
SPINOR_TEST_REDIS_URL=$(detail "$scratch/redis" url)
SPINOR_TEST_SEARCH_URL=$(detail "$scratch/search" url)
[[ -n $SPINOR_TEST_RABBITMQ_URL && -n $SPINOR_TEST_MYSQL_URL && -n $SPINOR_TEST_REDIS_URL && -n $SPINOR_TEST_SEARCH_URL ]] || fail "the default servers did not start"
export SPINOR_TEST_RABBITMQ_URL SPINOR_TEST_MYSQL_URL SPINOR_TEST_REDIS_URL SPINOR_TEST_SEARCH_URL

failed=0
rows=()

# row NAME VARIABLE FILTER... [-- OPTION...]: the tests whose names hold a filter, with VARIABLE at that server.
row() {
  local name=$1 variable=$2 directory="$scratch/row-${#rows[@]}" log passed lost result kind=''
  shift 2
  local -a filters=() options=()
  while (( $# )) && [[ $1 != -- ]]; do filters+=("$1"); shift; done
  (( $# )) && options=("${@:2}")
  log=$directory.log
  start "$name" "$directory" "${options[@]}"
  echo "test-newest: $name $(detail "$directory" version): ${filters[*]}"
  # A test that starts a server for itself starts one of the row's kind.
  case $variable in *MYSQL*) kind="SPINOR_TEST_SQL=$name" ;; *SEARCH*) kind="SPINOR_TEST_ENGINE=$name" ;; esac
  env "$variable=$(detail "$directory" url)" ${kind:+"$kind"} ${options:+"SPINOR_SERVER_ROOT=$chroot"} \
    deploy/test.sh --test spinor --no-fail-fast -- "${filters[@]}" >"$log" 2>&1 || true
  passed=$(sed -nE 's/^test result: .* ([0-9]+) passed.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  lost=$(sed -nE 's/^test result: .* ([0-9]+) failed.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  if (( lost )); then result="$lost of $(( passed + lost )) failed"; failed=1
  elif (( passed )); then result="$passed passed"
  else result="not run"; failed=1; fi
  [[ $result == *passed ]] || { tail -n 40 "$log" >&2; sed -n 's/^test \(.*\) \.\.\. FAILED/  FAILED \1/p' "$log"; }
  rows+=("| $name | $(detail "$directory" version) | ${filters[*]} | $result |")
  "$servers" remove "$directory"
}

row rabbitmq SPINOR_TEST_RABBITMQ_URL rabbitmq::
row rabbitmq SPINOR_TEST_RABBITMQ_URL rabbitmq:: -- --root "$chroot"
row mariadb SPINOR_TEST_MYSQL_URL recorder::
row mysql8 SPINOR_TEST_MYSQL_URL recorder::
row mysql SPINOR_TEST_MYSQL_URL recorder:: -- --root "$chroot"
row mariadb SPINOR_TEST_MYSQL_URL state::
row mysql SPINOR_TEST_MYSQL_URL state:: -- --root "$chroot"
row redis SPINOR_TEST_REDIS_URL state::
row redis SPINOR_TEST_REDIS_URL state:: -- --root "$chroot"
row elasticsearch SPINOR_TEST_SEARCH_URL search::
row elasticsearch9 SPINOR_TEST_SEARCH_URL search:: -- --root "$chroot"
row opensearch SPINOR_TEST_SEARCH_URL search::
row opensearch3 SPINOR_TEST_SEARCH_URL search:: -- --root "$chroot"

# The table stands between two marks; the text around it is written by people.
page=docs/compatibility.md
{
  sed '/<!-- table:begin -->/q' "$page"
  echo
  echo "| server | version | suites | result |"
  echo "|---|---|---|---|"
  printf '%s\n' "${rows[@]}"
  echo
  echo "Run on $(date -u +%Y-%m-%d)."
  echo
  sed -n '/<!-- table:end -->/,$p' "$page"
} >"$page.part"
mv "$page.part" "$page"
cat "$page"
exit "$failed"
