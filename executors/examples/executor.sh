#!/bin/sh
# An executor program in POSIX shell, with awk and dd: the protocol of docs/protocol.md, and the kinds of the conformance
# kit. No jq: `fields` finds the few fields that a shell needs, and leaves args as the JSON they are.
#
#   python -m spinor_jobs.conformance -- sh executors/examples/executor.sh
#
# A shell does one thing at a time: it answers no pings while a job runs, hears no cancel, and is ended by SIGTERM.
# Its children get the descriptor closed by hand, for a shell cannot mark it close-on-exec.
LC_ALL=C
export LC_ALL
fd=${SPINOR_EXECUTOR_FD:?"a consumer starts this program"}
case $fd in [3-9]) ;; *) echo "descriptor $fd: a shell can name 3 to 9 only" >&2; exit 2 ;; esac
unset SPINOR_EXECUTOR_FD
eval "exec 9<&$fd"
[ "$fd" = 9 ] || eval "exec $fd<&-"

# A frame: its length in bytes, a line feed, the body.
send() { printf '%s\n%s' "${#1}" "$1" >&9; }

# The next frame's body in $body; false at the end of the stream. dd reads at most what is missing, so it takes nothing
# of the frame behind.
receive() {
  IFS= read -r length <&9 || return 1
  case $length in '' | *[!0-9]* | 0?* | ?????????*) echo "no length: $length" >&2; exit 1 ;; esac
  body=
  while [ "$length" -gt 0 ]; do
    part=$(dd bs="$length" count=1 <&9 2>/dev/null; printf x)
    part=${part%x}
    [ -n "$part" ] || return 1
    body=$body$part
    length=$((length - ${#part}))
  done
}

# Reads one JSON object and prints: type, execution, kind, n, then args, each on a line, the texts without quotes.
fields() {
  printf '%s' "$1" | awk '
    BEGIN { RS = "\001" }
    function blank() { while (index(" \t\n\r", substr(text, at, 1)) && at <= size) at++ }
    function skip_text(  rest, n) {
      at++
      while (1) {
        rest = substr(text, at, 4096)
        n = match(rest, /["\\]/)
        if (n == 0) { at += length(rest); if (rest == "") return; continue }
        at += n
        if (substr(rest, n, 1) == "\"") return
        at++
      }
    }
    function skip(  c, depth) {
      depth = 0
      do {
        blank(); c = substr(text, at, 1)
        if (c == "\"") skip_text()
        else if (c == "{" || c == "[") { depth++; at++ }
        else if (c == "}" || c == "]") { depth--; at++ }
        else if (c == "," || c == ":") at++
        else while (at <= size && !index(",]} \t\n\r", substr(text, at, 1))) at++
      } while (depth > 0 && at <= size)
    }
    function object(path,  key, from, value) {
      at++
      while (at <= size) {
        blank()
        if (substr(text, at, 1) == "}") { at++; return }
        if (substr(text, at, 1) == ",") { at++; continue }
        from = at; skip_text(); key = path substr(text, from + 1, at - from - 2)
        blank(); at++; blank()
        if (key == "job") { object("job."); continue }
        from = at; skip(); value = substr(text, from, at - from)
        if (key != "job.args") gsub(/^"|"$/, "", value)
        gsub(/\n/, " ", value)
        found[key] = value
      }
    }
    { text = $0; size = length(text); at = 1; blank(); object("") }
    END { print found["type"]; print found["execution"]; print found["job.kind"]; print found["n"]; print found["job.args"] }
  '
}

result() { send "{\"type\":\"result\",\"execution\":\"$execution\",$1}"; }

seconds() { printf '%s' "$args" | sed -n 's/.*"seconds"[ ]*:[ ]*\([0-9.]*\).*/\1/p'; }

run() {
  case $kind in
    kit.echo) result "\"outcome\":\"succeeded\",\"value\":$args" ;;
    kit.fail) result '"outcome":"failed","message":"it went wrong"' ;;
    kit.sleep) sleep "$(seconds)" 9<&-; result '"outcome":"succeeded"' ;;
    kit.child) sleep "$(seconds)" 9<&- >/dev/null 2>&1 & result '"outcome":"succeeded"' ;;
    kit.print) echo hello; result '"outcome":"succeeded"' ;;
    kit.retry) result '"outcome":"retry","after":1.5,"reason":"not yet"' ;;
    kit.discard) result '"outcome":"discard","reason":"it is of no use"' ;;
    *) result '"outcome":"failed","message":"this program has no such kind"' ;;
  esac
}

kinds=
for name in echo fail sleep print retry discard child; do kinds="$kinds${kinds:+,}{\"kind\":\"kit.$name\"}"; done
send "{\"type\":\"hello\",\"protocol\":1,\"program\":\"kit in sh 1.0\",\"language\":\"sh\",\"kinds\":[$kinds]}"
while receive; do
  {
    IFS= read -r type
    IFS= read -r execution
    IFS= read -r kind
    IFS= read -r n
    IFS= read -r args
  } <<FIELDS
$(fields "$body")
FIELDS
  case $type in
    run) run ;;
    ping) send "{\"type\":\"pong\",\"n\":$n}" ;;
    bye) exit 0 ;;
  esac
done
exit 0
