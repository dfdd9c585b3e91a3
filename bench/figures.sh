#!/bin/sh
# Measures the published figures again, one after the other; nothing else should run meanwhile.
#
#   bench/figures.sh                   all of them but the million: some ten minutes
#   bench/figures.sh storm churn       these
#   bench/figures.sh million           as many idle connections as the memory holds, over many servers
#   bench/figures.sh rows              every row of "hold the crowd" with its mark (bench/rows.sh): about half an hour
#   bench/figures.sh transports        TLS, WebSocket and the one port with their marks (bench/transports.sh): about ten minutes
#
# Tables go to the terminal, figures to $OUT/<name>.json (default: target/figures), one line of JSON each. Two of them are compared with
# `longwire bench --compare A.json B.json`. Needs a release build: cargo build --release
set -eu
cd "$(dirname "$0")/.."
longwire=${LONGWIRE:-target/release/longwire}
out=${OUT:-target/figures}
mkdir -p "$out"

measure() {
    name=$1
    shift
    echo "== $name: longwire bench $*"
    "$longwire" bench "$@" --json | tee "$out/$name.txt"
    tail -n 1 "$out/$name.txt" >"$out/$name.json"
}

figure() {
    case $1 in
    limit) measure limit limit ;;
    idle) measure idle idle ;;
    fanout) measure fanout fanout --all ;;
    fanout-tag) measure fanout-tag fanout --tag ;;
    fanout-16) measure fanout-16 fanout --all --coalesce 16 ;;
    fanout-stored) measure fanout-stored fanout --all --stored ;;
    unicast) measure unicast unicast ;;
    heartbeat) measure heartbeat heartbeat --devices 18000 ;;
    heartbeat-paced) measure heartbeat-paced heartbeat --devices 18000 --rate 18000 --rounds 1 --turns 10 ;;
    storm) measure storm storm ;;
    churn) measure churn churn ;;
    stall)
        # With the kernel's own tuning a socket on the loopback takes 2.6 MB before an outbox holds anything.
        measure stall stall --serve-arg=--set --serve-arg=listener.device.socket_buffer_bytes=32768
        ;;
    mixed) measure mixed mixed ;;
    rows) bench/rows.sh ;;
    transports) bench/transports.sh ;;
    million) measure million idle --total 1000000 --seconds 1800 ;;
    *)
        echo "no figure is called $1" >&2
        return 2
        ;;
    esac
}

if [ $# -eq 0 ]; then
    set -- limit idle fanout fanout-tag fanout-16 fanout-stored unicast heartbeat heartbeat-paced storm churn stall mixed
fi
for name in "$@"; do
    figure "$name"
done
