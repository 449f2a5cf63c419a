#!/usr/bin/env bash
# Judges the dependency tree by deny.toml where cargo-deny is not installed: licences, banned crates,
# duplicate versions. Advisories need a list from outside: `make audit`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The strings of the list $2 in section [$1] of deny.toml; of {tables}, their first string.
list() {
  awk -v section="[$1]" -v key="$2" '
    /^\[/ { inside = ($0 == section) }
    inside && $0 ~ "^" key " = \\[" { reading = 1; next }
    reading && /^\]/ { reading = 0 }
    reading && match($0, /"[^"]*"/) { print substr($0, RSTART + 1, RLENGTH - 2) }
  ' deny.toml
}

tree() { cargo tree --workspace --locked --all-features --target x86_64-unknown-linux-gnu --edges normal,build --prefix none "$@" | sed 's/ (\*)$//' | sort -u; }

wrong=$(
  # A licence expression is AND of OR of names; the old form MIT/Apache-2.0 is an OR.
  tree --format '{p}|{l}' | sed -E 's/ \(proc-macro\)//; s/ \(\/[^)]*\)//' | awk -F'|' -v allowed="$(list licenses allow)" '
    BEGIN { split(allowed, names, "\n"); for (i in names) good[names[i]] = 1 }
    NF < 2 { next }
    {
      text = $2; gsub(/[()]/, "", text); gsub(/\//, " OR ", text)
      parts = split(text, part, " AND ")
      for (i = 1; i <= parts; i++) {
        ok = 0; choices = split(part[i], choice, " OR ")
        for (j = 1; j <= choices; j++) if (choice[j] in good) ok = 1
        if (!ok) { print "licence not allowed: " $1 ": " $2; break }
      }
    }'
  tree --format '{p}' | awk -v banned="$(list bans deny)" '
    BEGIN { split(banned, names, "\n"); for (i in names) bad[names[i]] = 1 }
    $1 in bad { print "banned: " $1 " " $2 }'
  tree --format '{p}' | awk '{ print $1, $2 }' | sort -u | awk -v known="$(list bans skip)" '
    BEGIN { split(known, names, "\n"); for (i in names) { split(names[i], pair, "@"); skip[pair[1] " v" pair[2]] = 1 } }
    ($0 in skip) { next }
    { count[$1]++; versions[$1] = versions[$1] " " $2 }
    END { for (name in count) if (count[name] > 1) print "two versions: " name versions[name] }'
)
if [[ -n $wrong ]]; then echo "$wrong" >&2; exit 1; fi
