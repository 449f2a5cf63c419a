#!/usr/bin/env bash
# The torture harness in its long form: real processes under a seeded plan of faults for a given
# time, then the comparison of the ledgers. Prints the strikes as they fall and the summary as JSON;
# the exit code is 0 when nothing was wrong.
#   deploy/torture.sh --broker rabbitmq|embedded [--seconds N] [--seed N] [--root CHROOT] [--out DIR]
# Without --seconds it is the short form, which `make test` runs too. --root: the RabbitMQ of a chroot
# (deploy/test-newest.sh --chroot makes one; needs root). Each run keeps its ledgers and logs in a
# directory of its own, under --out (else under TMPDIR); a failure names it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

broker=''
while (( $# )); do
  case $1 in
    -h | --help) usage; exit ;;
    --broker | --seconds | --seed | --root | --out) (( $# >= 2 )) || { usage >&2; exit 2; } ;;
    *) usage >&2; exit 2 ;;
  esac
  case $1 in
    --broker) broker=$2 ;;
    --seconds) export SPINOR_TORTURE_SECONDS=$2 ;;
    --seed) export SPINOR_TORTURE_SEED=$2 ;;
    --root) SPINOR_TORTURE_ROOT=$(realpath "$2"); export SPINOR_TORTURE_ROOT ;;
    --out) SPINOR_TORTURE_OUT=$(realpath -m "$2"); export SPINOR_TORTURE_OUT ;;
  esac
  shift 2
done
case $broker in
  embedded) test=the_one_process_under_a_plan_of_faults_loses_no_job_and_records_each_once ;;
  rabbitmq) test=three_consumers_on_rabbitmq_under_a_plan_of_faults_lose_no_job_and_record_each_once ;;
  *) usage >&2; exit 2 ;;
esac

export SPINOR_TEST_SERVERS=$PWD/deploy/servers
# A run of many minutes does not end because a server that was struck takes its time on a busy machine.
export SPINOR_SERVER_PATIENCE=${SPINOR_SERVER_PATIENCE:-900}
cargo test --workspace --locked --quiet --test spinor -- --exact "torture::$test" --nocapture
