#!/usr/bin/env bash
# Builds the page's assets from src/page/app. The result is checked in, so that building Spinor needs no Node.
#   deploy/page.sh             into src/page/assets
#   deploy/page.sh DIR         into DIR, to compare
#   deploy/page.sh --install   only the packages that building and the browser test need, into src/page/node_modules
set -euo pipefail
page=$(realpath "$(dirname "$0")/../src/page")
if ! command -v npm >/dev/null; then echo "page: needs Node 18 or newer, with npm" >&2; exit 1; fi
case ${1:-} in
  --install) out= ;;
  '') out=$page/assets ;;
  *) mkdir -p "$1"; out=$(realpath "$1") ;;
esac

cd "$page"
# One at a time: two tests may ask at once.
exec 9<package-lock.json
flock 9
if [[ ! -e node_modules/.installed ]] || ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null
  cp package-lock.json node_modules/.installed
fi
[[ -n $out ]] || exit 0
node_modules/.bin/tsc --noEmit
node build.mjs "$out"
