#!/bin/bash
# A raincheck worker with curl and jq, which runs one attempt at a time: worker.sh PROGRAM...
# A PROGRAM prints the names of its functions, or runs the one that it is called with: see README.md.
set -mu # m: each command in the background gets a process group, so that a signal reaches its children
server=${RAINCHECK_SERVER:-http://127.0.0.1:8000}
folder=$(mktemp -d) # only for this user: the headers have the tokens
stopping='' signalled='' waiting=''
EXPIRED=44 REFUSED=40

on_stop() {
    stopping=yes signalled=yes
    [[ ! $waiting ]] || kill -- -"$waiting"
}
trap on_stop TERM INT
trap 'rm -rf "$folder"' EXIT

declare -A programs
for program in "$@"; do
    while read -r name; do programs[$name]=$program; done < <("$program")
done

# Wait for a command in the background, also if a signal arrives meanwhile.
wait_for() {
    local code
    while signalled=''; do
        wait "$1" 2>/dev/null # or the shell would print how it ended
        code=$?
        [[ $signalled ]] || return "$code"
    done
}

# Run a command which a signal to stop ends.
until_stopped() {
    "$@" &
    waiting=$!
    wait_for "$waiting"
    local code=$?
    waiting=''
    return "$code"
}

# call METHOD PATH: send the JSON on stdin until the server responds, and print its response.
call() {
    local body reply status delay=1
    body=$(cat)
    while kill -0 $$; do # else the worker was killed, and this is left of it
        reply=$(curl --silent --max-time 60 --config "$folder/headers" --request "$1" --data-binary @- \
            --write-out '\n%{http_code}' "${server%/}$2" <<<"$body")
        status=${reply##*$'\n'} reply=${reply%$'\n'*}
        case $status in
        2??) printf '%s' "$reply" && return ;;
        404) return $EXPIRED ;;
        429 | 5?? | 000) sleep "$delay" ;;
        *) echo "the server refused $1 $2 with $status: $reply" >&2 && return $REFUSED ;;
        esac
        delay=$((delay < 8 ? 2 * delay : 10))
    done
}

register() {
    printf 'header = "%s"\n' 'Content-Type: application/json' >"$folder/headers"
    [[ ! ${RAINCHECK_TOKEN-} ]] || printf 'header = "Authorization: Bearer %s"\n' "$RAINCHECK_TOKEN" >>"$folder/headers"
    jq -n --arg name "$HOSTNAME" '{$name, capacity: 1, functions: [$ARGS.positional[] | {name: .}]}' \
        --args "${!programs[@]}" >"$folder/registration"
    until_stopped call POST /v1/worker <"$folder/registration" >"$folder/registered" || return
    worker=/v1/worker/$(jq -r .id "$folder/registered")
    heartbeat=$(jq .heartbeat "$folder/registered")
    jq -r '"header = \"Worker-Token: \(.token)\""' "$folder/registered" >>"$folder/headers"
}

# Extend the lease of the attempt, with its progress; print the reason if the attempt must stop.
extend() {
    jq -n --arg id "$id" --slurpfile progress "$folder/progress" \
        '{attempts: [{$id} + ($progress[-1:][] // null | if . then {progress: .} else {} end)], running: 1}' |
        call POST "$worker/extend" >"$folder/extended" || return
    jq -r '.stop[0].reason // empty' "$folder/extended"
}

# Extend the lease while the command runs; end the command if it must stop.
extend_while_running() {
    local reason=''
    while [[ ! $reason ]] && sleep "$heartbeat" && kill -0 $$; do
        reason=$(extend) || reason=lost
    done
    echo "$reason" >"$folder/stop"
    kill -- -"$1"
}

# Print the entry of the attempt in a finish, for the exit code of its command.
entry() {
    if [[ -e $folder/stop ]]; then
        jq -n --arg id "$id" '{$id, stopped: true}'
    elif (($1 == 0)); then
        jq -n --arg id "$id" --slurpfile result "$folder/result" --slurpfile data "$folder/data" \
            '{$id, result: $result[0], data: ($data[0] // {})}'
    else
        jq -n --arg id "$id" --argjson code "$1" --rawfile errors "$folder/errors" '{$id, error:
            {type: "CommandFailed", message: ($errors[-2000:] | rtrimstr("\n")), retryable: ($code != 100)}}'
    fi
}

# Run the attempt in the file "attempt" of the folder.
run_attempt() {
    local id function command extending code
    id=$(jq -r .id "$folder/attempt") function=$(jq -r .function "$folder/attempt")
    rm -f "$folder/stop"
    : >"$folder/data" >"$folder/progress"
    DATA=$folder/data PROGRESS=$folder/progress "${programs[$function]}" "$function" \
        <"$folder/attempt" >"$folder/result" 2>"$folder/errors" &
    command=$!
    extend_while_running "$command" &
    extending=$!
    wait_for "$command"
    code=$?
    kill -- -"$extending" 2>/dev/null
    wait_for "$extending"
    [[ ! -s $folder/progress ]] || extend >/dev/null || return
    [[ -e $folder/stop && $(<"$folder/stop") == lost ]] && return
    finish "$code" || {
        code=$?
        ((code == REFUSED)) || return "$code"
        echo "the server refuses the result: it is too large" >"$folder/errors"
        finish 100
        return
    }
    jq -r '.attempts[0].problem.detail // empty' "$folder/finished" >"$folder/errors"
    [[ ! -s $folder/errors ]] || finish 100
}

# Send the result of the attempt, for the exit code of its command.
finish() {
    entry "$1" >"$folder/entry" || {
        echo "the result is not JSON" >"$folder/errors"
        entry 100 >"$folder/entry"
    }
    jq '{attempts: [.]}' "$folder/entry" | call POST "$worker/finish" >"$folder/finished"
}

# Claim and run attempts until a signal arrives or a call fails.
work() {
    while [[ ! $stopping ]]; do
        until_stopped call POST "$worker/claim" <<<'{"limit": 1, "wait": 20}' >"$folder/claimed" || return
        jq '.attempts[]' "$folder/claimed" >"$folder/attempt"
        [[ ! -s $folder/attempt ]] || run_attempt || return
    done
}

echo "Worker for $server. Stop it with Ctrl-C or SIGTERM."
while [[ ! $stopping ]]; do
    register && work
    code=$?
    [[ $stopping ]] || ((code == EXPIRED)) || exit 1
done
[[ ! ${worker-} ]] || call DELETE "$worker" <<<''
