#!/usr/bin/env bash
# Sees that the real servers the tests use are installed (Debian's packages), and starts none of them.
# Asks first on a terminal; goes on unasked in CI or without one. Refuses to touch a running service.
#   deploy/packages.sh            install what is missing
#   deploy/packages.sh --list     print what is missing, install nothing
set -euo pipefail

# program or file = package
NEEDED=(
  /usr/lib/rabbitmq/bin/rabbitmq-server=rabbitmq-server
  /usr/sbin/mariadbd=mariadb-server
  /usr/bin/redis-server=redis-server
  java=default-jre-headless
  mvn=maven
  unzip=unzip
  openssl=openssl
  python3=python3
  /usr/lib/python3/dist-packages/pika/__init__.py=python3-pika
  /usr/lib/python3/dist-packages/celery/__init__.py=python3-celery
  /usr/lib/python3/dist-packages/jsonschema/__init__.py=python3-jsonschema
  /usr/lib/python3/dist-packages/croniter/__init__.py=python3-croniter
  node=nodejs
  npm=npm
  /usr/bin/chromium=chromium
  promtool=prometheus
)

missing=()
for need in "${NEEDED[@]}"; do
  [[ -e ${need%%=*} ]] || command -v "${need%%=*}" >/dev/null || missing+=("${need#*=}")
done
(( ${#missing[@]} )) || exit 0
if [[ ${1:-} == --list ]]; then printf '%s\n' "${missing[@]}"; exit; fi

line="apt-get install --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "packages: the tests need ${missing[*]}, and there is no apt-get here: install them by hand" >&2
  exit 1
fi
root=()
if (( EUID != 0 )); then
  if ! command -v sudo >/dev/null; then echo "packages: as root, run: $(realpath "$0") (it is '$line' and starts no service)" >&2; exit 1; fi
  root=(sudo)
fi
if [[ -t 0 && -z ${CI:-} ]]; then
  read -r -p "The tests need servers that are not installed. Run '${root[*]} $line'? No service is started. [Y/n] " answer
  case $answer in '' | [Yy]*) ;; *) echo "packages: nothing installed" >&2; exit 1 ;; esac
else
  echo "packages: $line" >&2
fi

# A package's installation starts its service unless this file says no (101 = forbidden by policy).
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap '"${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
  "${root[@]}" chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
