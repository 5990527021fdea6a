#!/bin/bash
# The functions of examples/chain: prints their names, or runs one of them.
case ${1-} in
'') printf '%s\n' /v1/say-hello-world /v1/test-1 /v1/test-2 /v1/test-fail ;;
/v1/say-hello-world) jq '"Hello, \(.args[0] // .kwargs.name // "world")!"' ;;
/v1/test-1)
    jq '{"left by": .function}' >"$DATA"
    echo '"test-1 was here"'
    ;;
/v1/test-2) jq '{previous, data}' ;;
/v1/test-fail)
    jq -r '"attempt \(.attempt) with \(.args) failed, as always"' >&2
    exit 1
    ;;
esac
