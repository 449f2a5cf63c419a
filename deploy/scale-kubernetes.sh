#!/usr/bin/env bash
# Gives a group so many consumers as pods of the Deployment spinor-consumer-GROUP (deploy/kubernetes/consumer.yaml).
#   deploy/scale-kubernetes.sh GROUP REPLICAS
# For `[scaler] command = ["scale-kubernetes.sh", "{group}", "{replicas}"]`. The namespace is that of kubectl's context, or
# of the pod it runs in, whose service account needs the verb `patch` on `deployments/scale`.
set -euo pipefail

[[ $# == 2 && $1 =~ ^[A-Za-z0-9._-]+$ && $2 =~ ^[0-9]+$ ]] || { echo "usage: $0 GROUP REPLICAS" >&2; exit 2; }
exec kubectl scale "deployment/spinor-consumer-$1" "--replicas=$2"
