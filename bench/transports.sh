#!/bin/bash
# What TLS, WebSocket and the one port are held to: takes each figure and judges it by its mark.
#
#   bench/transports.sh                  all of them, about ten minutes; nothing else should run meanwhile
#   bench/transports.sh memory mixed     these: memory, handshake, stalled, mixed
#
# Each mark prints PASS or FAIL with the figure; the script ends with 1 when one failed, or with 2 when something is missing. A figure that could
# not be taken is a FAIL. The lines of JSON stay in $OUT (default: target/figures) as transports-<name>.json. Needs jq and a release build
# (cargo build --release). Every command is ended after the seconds before it.
set -u
cd "$(dirname "$0")/.."
. bench/judge.sh

# bench SECONDS NAME ARGUMENTS...: shows the table, keeps the line of JSON in $file.
bench() {
    limit=$1 file=$out/transports-$2.json
    shift 2
    echo "== longwire bench $*"
    timeout --signal=TERM --kill-after=20 "$limit" "$longwire" bench "$@" --json 2>"$file.err" | tee "$file.txt" | grep -v '^{'
    status=${PIPESTATUS[0]}
    grep '^{' "$file.txt" | tail -n 1 >"$file"
    [ "$status" = 0 ] || { echo "ended with $status:" >&2; tail -n 3 "$file.err" >&2; }
}

# Bytes per idle connection through each transport, and what that is above the bare socket's.
memory() {
    for protocol in native mqtt; do
        for transport in tcp tls tls1.2 ws wss; do
            bench 300 "idle-$protocol-$transport" idle --protocol "$protocol" --transport "$transport"
            mark "$protocol through $transport: the line is straight" .straight '$x == true'
            if [ "$transport" = tcp ]; then
                plain=$(jq -r '.bytes_per_connection // empty' "$file" 2>/dev/null)
                mark "$protocol, bare: bytes of an idle connection" .bytes_per_connection '$x > 0'
                continue
            fi
            case $transport in
            ws) most=256 ;;
            *) most=4096 ;;
            esac
            mark "$protocol through $transport: <= $most bytes above the bare one" \
                ".bytes_per_connection - ${plain:-null}" "\$x <= $most"
        done
    done
}

handshake() {
    bench 300 handshake handshake
    for version in 1.3 1.2; do
        of=.tls${version/./}_full
        mark "full TLS $version handshakes/s per core >= 0.8 of the library's as it comes" \
            "$of.ratio_to_own.median" '$x >= 0.8'
        mark "TLS $version with the same suites (stated)" "$of.ratio.median" true
        mark "TLS $version with the same suites, without what a connection costs, >= 0.8" \
            "$of.ratio_without_connection.median" '$x >= 0.8'
    done
    mark "resumed by tickets, 1.3: all but each client's first" \
        '.tls13_resumed | .handshakes - .resumed' '$x <= 256 * 7'
    mark "resumed by tickets, 1.2: all but each client's first" \
        '.tls12_resumed | .handshakes - .resumed' '$x <= 256 * 7'
    mark "handshakes that failed" .lost '$x == 0'
}

stalled() {
    bench 180 stalled stalled-handshakes --count 10000
    mark "10,000 handshakes stalled at once, of which the server keeps what it may" .stalled_at_once '$x >= 8000'
    mark "memory held for them, KiB (<= 4 KiB each)" .held_kib '$x <= 40000'
    mark "ended within 10 s (p99)" '.ended_after_s[1]' '$x <= 10'
    mark "left at the end" .left '$x == 0'
    mark "ended with named reasons" '.closed | del(.peer_closed) | keys | join(" ")' \
        '$x | split(" ") - ["login_timeout", "full"] | length == 0'
    mark "logins meanwhile that failed" .lost '$x == 0'
    mark "logins meanwhile" .logins_welcomed '$x >= 500'
    mark "login p99 meanwhile, ms (<= 250)" .latency_ms.p99 '$x <= 250'
    bench 180 stalled-at-once stalled-handshakes --count 10000 --stalls-per-s 0
    mark "10,000 begun in one moment, again and again: logins that failed" .lost '$x == 0'
    # What a connection may wait in the backlog.
    mark "login p99 meanwhile, ms (<= 2000)" .latency_ms.p99 '$x <= 2000'
}

mixed() {
    bench 180 mixed mixed-transports
    mark "10,000 devices of ten kinds at one listener" .devices '$x == 10000'
    mark "every push acked by all" .acked_least '$x == 10000'
    mark "lost" .lost '$x == 0'
}

[ $# -gt 0 ] || set -- memory handshake stalled mixed
for name in "$@"; do
    case $name in
    memory | handshake | stalled | mixed) "$name" ;;
    *) echo "no figure is called $name: memory, handshake, stalled, mixed" >&2; exit 2 ;;
    esac
done
exit $failed
