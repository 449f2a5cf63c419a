# A well-behaved program without a library: says its args, and its number as the value.
export LC_ALL=C
tell() { printf '%s\n%s' "${#1}" "$1" >&"$SPINOR_EXECUTOR_FD"; }
tell '{"type":"hello","protocol":1,"program":"plain 1","language":"sh","kinds":[{"kind":"plain","description":"says its args"}],"answers_pings_while_running":false}'
while IFS= read -r length <&3; do
    frame=$(head -c "$length" <&3)
    case $frame in
        '{"type":"run"'*)
            execution=${frame#*'"execution":"'}
            execution=${execution%%'"'*}
            echo "$frame"
            tell "{\"type\":\"result\",\"execution\":\"$execution\",\"outcome\":\"succeeded\",\"value\":$$}"
            ;;
        '{"type":"ping"'*)
            n=${frame#*'"n":'}
            tell "{\"type\":\"pong\",\"n\":${n%%[!0-9]*}}"
            ;;
        '{"type":"bye"'*) exit 0 ;;
    esac
done
