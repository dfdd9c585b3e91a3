#!/bin/bash
# What a message's whole life is held to: takes each figure and judges it by its mark.
#
#   bench/life.sh                        all of them; registering a million devices is most of it. Nothing else should run meanwhile
#   bench/life.sh expression beside      these: broadcast, expression, beside
#
# REGISTERED (1,000,000) and ONLINE (10,000) say how large `broadcast` is. Each mark prints PASS or FAIL with the figure; the script ends with 1 when
# one failed, or with 2 when something is missing. A figure that could not be taken is a FAIL. The lines of JSON stay in $OUT (default:
# target/figures) as life-<name>.json. Needs jq and a release build (cargo build --release). Every command is ended after the seconds before it.
set -u
cd "$(dirname "$0")/.."
. bench/judge.sh

# take SECONDS NAME COMMAND...: shows the table, keeps the line of JSON in $file.
take() {
    limit=$1 file=$out/life-$2.json
    shift 2
    echo "== $*"
    timeout --signal=TERM --kill-after=20 "$limit" "$@" 2>"$file.err" | tee "$file.txt" | grep -v '^{'
    status=${PIPESTATUS[0]}
    grep '^{' "$file.txt" | tail -n 1 >"$file"
    [ "$status" = 0 ] || { echo "ended with $status:" >&2; tail -n 3 "$file.err" >&2; }
}

# Stored pushes to all, to a condition, and to a tag that nobody online has, with few and with many devices registered.
broadcast() {
    registered=${REGISTERED:-1000000} online=${ONLINE:-10000}
    few=$((registered / 10))
    take 3000 broadcast "$longwire" bench broadcast-registered --registered "$registered" --few "$few" --online "$online" --json
    of_many="[.pushed[] | select(.registered == $registered)]"
    mark "push to 202, the slowest of all, ms" "$of_many | map(.answer_ms.max) | max" '$x <= 50'
    for audience in all condition away; do
        of_both="[.pushed[] | select(.audience == \"$audience\")]"
        mark "$audience: median to 202, many registered to few" "$of_both | .[1].answer_ms.median / .[0].answer_ms.median" '$x <= 1.5'
        mark "$audience: bytes written, many to few" "$of_both | .[1].written_per_push / .[0].written_per_push" '$x <= 1.2'
    done
    # Written are whole pages of 4 KiB, and an acceptance begins and ends within one.
    mark "nobody online: bytes written a push, <= 2 x body and a page" \
        "$of_many | map(select(.audience == \"away\"))[0].written_per_push" '$x <= 2 * 4096 + 4096'
    mark "all online: bytes written a push, with the cursors" "$of_many | map(select(.audience == \"all\"))[0].written_per_push" true
    mark "who returned has everything" ".returned.wanted - .returned.received" '$x == 0'
}

# Conditions on the bitmaps of 100,000 connections, in process.
expression() {
    take 300 expression cargo run --quiet --release -p longwire-server --example members
    mark "the slowest condition over 100,000 connections, median us" .slowest_median_us '$x <= 1000'
}

# Pushes to one device each, alone and while one broadcast follows the other.
beside() {
    take 300 beside "$longwire" bench unicast --devices 10000 --during-broadcast 500 --seconds 40 --json
    mark "broadcasts meanwhile" .beside.broadcasts '$x >= 10'
    mark "push to 202: p99 beside broadcasts to that alone" .p99_ratio_accept '$x <= 2'
    mark "push to device: p99 beside broadcasts to that alone" .p99_ratio '$x <= 2'
}

[ $# -gt 0 ] || set -- broadcast expression beside
for name in "$@"; do
    case $name in
    broadcast | expression | beside) "$name" ;;
    *) echo "no $name: broadcast, expression, beside" >&2; exit 2 ;;
    esac
done
exit $failed
