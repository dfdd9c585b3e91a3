#!/bin/sh
# What a log that nobody reads costs: durable pushes and heartbeats at `log.level = debug` (two lines and more for each push),
# first with a reader, then with a pipe that is full and whose reader stands still. In turns, so that both meet the same machine.
#
#   bench/stopped-log.sh [TURNS]       needs a release build (cargo build --release); 3 turns by default
set -eu
cd "$(dirname "$0")/.."
longwire=${LONGWIRE:-target/release/longwire}
turns=${1:-3}
pushes=${PUSHES:-50000}
devices=${DEVICES:-1000}
work=$(mktemp -d)
server=
reader=
end() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; server=; } || true
    [ -z "$reader" ] || { kill "$reader" 2>/dev/null; wait "$reader" 2>/dev/null; reader=; } || true
}
trap 'end; rm -rf "$work"' EXIT
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$work/ready"; }
run() {
    "$longwire" bench "$@" --target "$(field device)" --api "$(field api)" --app-key "$(field app_key)" \
        --app-secret "$(field app_secret)" --pid "$server" 2>"$work/bench" || { cat "$work/bench" >&2; exit 1; }
}
measure() {
    rm -f "$work/pipe" "$work/ready"
    mkfifo "$work/pipe"
    # Open at both ends from here on: the server's open does not wait, and a pipe without a reader is full, not broken.
    exec 9<>"$work/pipe"
    if [ "$1" = read ]; then
        cat <"$work/pipe" >/dev/null 9>&- &
        reader=$!
    fi
    "$longwire" serve --dev --set log.level=debug >"$work/ready" 2>"$work/pipe" 9>&- &
    server=$!
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
    [ -s "$work/ready" ] || { echo "the server did not get ready" >&2; exit 1; }
    echo "== log $1"
    # These fill the pipe and the 8,192 lines of the queue.
    run unicast --devices 100 --pushes 10000 >/dev/null
    run unicast --devices "$devices" --pushes "$pushes"
    run heartbeat --devices "$devices" --rate 2000 --turns 5
    dropped=$(curl -s "http://$(field api)/metrics" | sed -n 's/^longwire_log_lines_dropped_total //p')
    echo "log lines dropped: $dropped"
    if [ "$1" = stopped ] && [ "$dropped" = 0 ]; then
        echo "the pipe was never full: nothing was measured" >&2
        exit 1
    fi
    end
    exec 9>&-
}
for turn in $(seq "$turns"); do
    echo "==== turn $turn"
    measure read
    measure stopped
done
