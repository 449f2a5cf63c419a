#!/usr/bin/env bash
# The same task by Celery's prefork pool (late ack, confirms, rpc results) and by Spinor's executor processes,
# each published by its own client, every result awaited, in turns on one private RabbitMQ.
#   deploy/bench-celery.sh SPINOR [TASKS] [ROUNDS] [PROCESSES]
# SPINOR: the program to measure, built for release. 4 processes on each side unless said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(( $# >= 1 && $# <= 4 )) || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
spinor=$(realpath "$1") tasks=${2:-5000} rounds=${3:-5} processes=${4:-4}

place=$(mktemp -d)
chmod 755 "$place" # the server runs as another user when we are root
mine=()
end() {
  (( ${#mine[@]} )) && kill "${mine[@]}" 2>/dev/null && wait "${mine[@]}" 2>/dev/null
  deploy/servers remove "$place/rabbitmq" >/dev/null || true
  rm -rf "$place"
}
trap end EXIT
BESIDE_BROKER=$(deploy/servers start rabbitmq "$place/rabbitmq" | sed -n 's/^url=//p')
export BESIDE_BROKER PYTHONPATH=$PWD/executors/python:$PWD/executors/python/tests/bench PYTHONDONTWRITEBYTECODE=1
export SPINOR_DATA=$place/data

cat > "$place/spinor.toml" <<T
broker = "$BESIDE_BROKER"
[consumer]
slots = $processes
queues = ["beside-spinor"]
kinds = ["beside.*"]
[kinds."beside.*"]
run = ["/usr/bin/python3", "-m", "spinor_jobs", "beside_celery"]
env = { PYTHONPATH = "$PYTHONPATH", BESIDE_BROKER = "$BESIDE_BROKER" }
processes = { min = $processes }
T
"$spinor" up --config "$place/spinor.toml" > "$place/spinor.log" 2>&1 & mine+=($!)
/usr/bin/python3 -m celery -A beside_celery worker -c "$processes" -l warning > "$place/celery.log" 2>&1 & mine+=($!)
/usr/bin/python3 executors/python/tests/bench/beside_celery.py "$tasks" "$rounds" || {
  tail -n 5 "$place/spinor.log" "$place/celery.log" >&2
  exit 1
}
