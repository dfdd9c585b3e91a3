#!/bin/bash
# The rows of "hold the crowd", one command each: takes the figure and judges it by the row's mark.
#
#   bench/rows.sh 3              this row
#   bench/rows.sh                all of them, about half an hour; nothing else should run meanwhile
#
# Each mark prints PASS or FAIL with the figure; the script ends with 1 when one failed, or with 2 when something is missing. A figure that could
# not be taken is a FAIL. The lines of JSON stay in $OUT (default: target/figures) as row-<n>-<name>.json. Needs jq, a release build
# (cargo build --release), and for rows 1 and 2 root (network namespaces, nftables). Every command is ended after the seconds before it.
set -u
cd "$(dirname "$0")/.."
. bench/judge.sh

# take SECONDS NAME COMMAND...: shows the table, keeps the line of JSON; `status` is how it ended.
take() {
    limit=$1 file=$out/row-$row-$2.json
    shift 2
    of="row $row "
    echo "== row $row: $*"
    timeout --signal=TERM --kill-after=20 "$limit" "$@" 2>"$file.err" | tee "$file.txt"
    status=${PIPESTATUS[0]}
    grep '^{' "$file.txt" | tail -n 1 >"$file"
    [ "$status" = 0 ] || { echo "ended with $status:" >&2; tail -n 3 "$file.err" >&2; }
}

bench() {
    limit=$1 name=$2
    shift 2
    take "$limit" "$name" "$longwire" bench "$@" --json
}

ended_well() {
    if [ "$status" = 0 ]; then verdict PASS "$1"; else verdict FAIL "$1 (ended with $status)"; fi
}

row_1() {
    take 400 article bench/article-002.sh --json
    ended_well "the server lived through the run in its memory cgroup"
    mark "1,000,000 sends to stuck peers" .sends_to_stuck '$x >= 1000000'
    mark "memory flat, MiB a minute while outboxes are full" .rss_slope_mib_per_min '$x <= 1'
    mark "memory more than before the cut, MiB (100 outboxes of 64 KiB are 6.3)" .rss_rise_mib '$x <= 6.3'
    mark "healthy p99 <= 1.2 x of the run without stuck peers" .p99_ratio '$x <= 1.2'
    mark "stuck peers closed within 35 s" .closed_last_s '$x <= 35'
}

row_2() {
    # Ten thousand records and kernel sockets are more than the articles' 128 MiB.
    MEMORY_MIB=1024 STUCK=10000 HEALTHY=200 SENDS=1000000 take 400 blackholed bench/article-002.sh --json
    mark "10,000 blackholed peers closed within 90 s" .closed_last_s '$x <= 90'
    mark "descriptors left over" .descriptors_left_over '$x <= 0'
    mark "zombie ratio < 0.1 % after it" .zombie_ratio '$x < 0.001'
}

row_3() {
    bench 300 storm storm
    mark "18,000 at once: all logged in again within 5 s" .at_once.all_s_after_ready '$x <= 5'
    mark "with the SDK's back-off within 20 s" .back_off.all_s_after_ready '$x <= 20'
    mark "devices lost" .lost '$x == 0'
    mark "refused for good" '.at_once.refused_for_good + .back_off.refused_for_good' '$x == 0'
    mark "API p99 <= 250 ms meanwhile" \
        '[.at_once, .back_off | .api_read_ms.p99, .api_push_ms.p99] | if any(. == null) then null else max end' '$x <= 250'
}

row_4() {
    bench 300 heartbeat heartbeat --devices 18000 --turns 12
    mark "CPU of a heartbeat <= 1.2 x the bare echo" .cpu_ratio.median '$x <= 1.2'
    mark "p99, ms (stated)" .latency_ms.p99 true
}

row_5() {
    bench 300 idle idle
    mark "<= 450 bytes for each idle connection" .bytes_per_connection '$x <= 450 and $x > 0'
    mark "the line is straight" .straight '$x == true'
    churned
    mark "memory within 5 % after 200,000 connections" .rss_growth '$x <= 1.05'
}

row_6() {
    bench 300 fanout fanout --all
    mark ">= 0.9 of the bare write loop" .ratio_to_limit '$x >= 0.9'
    # On cores of its own, or the figure is how long a client waits for a core that the server has.
    bench 300 apart fanout --all --apart --turns 10
    mark "heartbeat p99 during a broadcast <= 3 x without" .heartbeat_p99_ratio '$x <= 3'
    bench 300 fanout-16 fanout --all --coalesce 16
    mark ">= 0.7 of the bare write of 16 messages" .ratio_to_limit '$x >= 0.7'
    # Asked only of a machine whose bare loop does 1.3 million.
    mark ">= 1 million deliveries/s where the bare loop reaches 1.3" '[.deliveries_per_s, .bare_per_s.median]' \
        '$x[0] != null and $x[1] != null and ($x[0] >= 1e6 or $x[1] < 1.3e6)'
}

row_7() {
    take 300 wheel cargo run --release --quiet -p longwire-server --example wheel
    ended_well "a million sessions and ten million heartbeats ran to their end"
    bytes=$(sed -n 's/^timer memory per session *\([0-9]*\) bytes of links, and \([0-9]*\) of.*/\1 \2/p' "$file.txt")
    grown=$(sed -n 's/^resident .* \([0-9]*\) full, \([0-9]*\) after.*/\1 \2/p' "$file.txt" | awk '{ print $2 - $1 }')
    if [ -n "$bytes" ] && [ $((${bytes% *} + ${bytes#* })) -le 16 ]; then word=PASS; else word=FAIL; fi
    verdict $word "<= 16 bytes of timer memory each: ${bytes:-none} (links, last read)"
    # The lists of what is due and of the ticks' times are made in the loop.
    if [ -n "$grown" ] && [ "$grown" -le 4194304 ]; then word=PASS; else word=FAIL; fi
    verdict $word "no growth over the heartbeats (4 MiB for the example's own lists): ${grown:-none} bytes"
    verdict "$(grep -q '^tick ' "$file.txt" && echo PASS || echo FAIL)" "worst tick stated: $(grep '^tick ' "$file.txt")"
}

row_8() {
    bench 420 million idle --total 1000000 --floor-mib 4096 --seconds 300
    mark "a million connections, or where and why it stopped" \
        'if .connections >= 1000000 then .connections elif .stopped then "\(.connections): \(.stopped)" else null end' true
    mark "bytes of the servers for each" .bytes_per_connection true
    mark "kernel slab bytes for each" .kernel_slab_bytes_per_connection true
    mark "opened a second" .opened_per_s true
    mark "heartbeat CPU, us" .heartbeat_cpu_us true
}

row_9() {
    test_of() { take 400 "$1" cargo test --quiet -p longwire --test "$1" "${@:2}"; }
    test_of stalls
    ended_well "a stopped server keeps its devices; a log that nobody reads costs lines alone (tests)"
    test_of behaviour descriptors
    ended_well "descriptors exhausted: API and store work (tests)"
    take 180 log bench/stopped-log.sh 1
    ended_well "log to a stopped pipe: drops counted (compare the p99 of both parts above)"
}

row_10() {
    churned
    ended_well "every gauge and the descriptors as before 200,000 connections"
    mark "connections that did not end as meant" '[.failed[]] | add // 0' '$x == 0'
    mark "connections that did" '[.ended[]] | add' '$x >= 200000'
}

# Rows 5 and 10 are two sides of one run.
churned() {
    if [ -z "${churn_status:-}" ]; then
        bench 400 churn churn --cycles 200000 --seconds 150
        churn_status=$status churn_file=$file
    fi
    status=$churn_status file=$churn_file
}

[ $# -gt 0 ] || set -- 1 2 3 4 5 6 7 8 9 10
for row in "$@"; do
    case $row in
    [1-9] | 10) "row_$row" ;;
    *) echo "no row $row: 1 to 10" >&2; exit 2 ;;
    esac
done
exit $failed
