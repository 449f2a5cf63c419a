#!/usr/bin/env bash
# Gives a group so many consumers on this machine, as units spinor-consumer@GROUP-1.service and so on.
#   deploy/scale-systemd.sh GROUP REPLICAS
# For `[scaler] command = ["scale-systemd.sh", "{group}", "{replicas}"]`. May be run again; a stop does not wait
# for the drain.
set -euo pipefail

[[ $# == 2 && $1 =~ ^[A-Za-z0-9._-]+$ && $2 =~ ^[0-9]+$ ]] || { echo "usage: $0 GROUP REPLICAS" >&2; exit 2; }
group=$1 replicas=$2

# The newest first; a unit of another group that only begins like ours has no bare number there.
running=$(systemctl list-units --plain --no-legend --state=active,activating,reloading "spinor-consumer@$group-*.service")
while read -r unit _; do
  number=${unit#"spinor-consumer@$group-"} number=${number%.service}
  [[ $number =~ ^[0-9]+$ ]] || continue
  (( number <= replicas )) || systemctl stop --no-block "$unit"
done < <(sort -rV <<<"$running")

for (( number = 1; number <= replicas; number++ )); do
  systemctl start "spinor-consumer@$group-$number.service"
done
