#!/bin/bash
# The functions that raincheck worker-check calls: prints their names, or runs one of them.
names=(check/echo check/sleep check/fail check/fatal check/flaky check/data check/progress)
[[ ${1-} ]] || exec printf '%s\n' "${names[@]}"
attempt=$(cat)
argument() { jq "$1" ".args[$2]" <<<"$attempt"; }

case $1 in
check/echo) argument -c 0 ;;
check/sleep) sleep "$(argument -c 0)" && echo '"slept"' ;;
check/fail) argument -r 0 >&2 && exit 1 ;;
check/fatal) argument -r 0 >&2 && exit 100 ;;
check/flaky) jq 'if .attempt > 1 then .attempt else error("the first attempt fails") end' <<<"$attempt" ;;
check/data)
    jq '{(.args[0]): .args[1]}' <<<"$attempt" >"$DATA"
    jq '{previous, data}' <<<"$attempt"
    ;;
check/progress)
    echo '{"done": 1, "total": 2, "message": "half"}' >"$PROGRESS"
    echo '"done"'
    ;;
esac
