//! What the server says of itself, from `/metrics`: its reactor loop's lag, and every gauge for a census.

use std::collections::BTreeMap;

use crate::error::BenchError;
use crate::http::Api;

/// A gauge with the label `shard`.
const SHARD_CONNECTIONS: &str = "longwire_shard_connections{";
const LOOP_BUCKETS: &str = "longwire_reactor_loop_seconds_bucket";

/// A cumulative histogram at one moment: turns of all shards that took at most so many microseconds.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct LoopLag {
    at_most: BTreeMap<u64, f64>,
}

/// A bound of `+Inf`.
const UNBOUNDED: u64 = u64::MAX;

impl LoopLag {
    /// Now; empty if the server does not say.
    pub(crate) fn read(api: &Api) -> Result<LoopLag, BenchError> {
        let reply = api.open()?.call("GET", "/metrics", "")?;
        Ok(if reply.status == 200 {
            LoopLag::parse(&String::from_utf8_lossy(&reply.body))
        } else {
            LoopLag::default()
        })
    }

    fn parse(text: &str) -> LoopLag {
        let mut at_most = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(LOOP_BUCKETS)) {
            let bound =
                line.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(bound, _)| bound);
            let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
            let bound = match bound {
                Some("+Inf") => Some(UNBOUNDED),
                Some(seconds) => seconds.parse::<f64>().ok().map(|seconds| (seconds * 1e6).round() as u64),
                None => None,
            };
            if let (Some(bound), Some(count)) = (bound, count) {
                *at_most.entry(bound).or_insert(0.0) += count;
            }
        }
        LoopLag { at_most }
    }

    /// In words: the bound that 99 % of the turns since `before` kept.
    pub(crate) fn p99_since(&self, before: &LoopLag) -> Option<f64> {
        let turns = |bound: &u64, count: &f64| count - before.at_most.get(bound).copied().unwrap_or_default();
        let total = self.at_most.iter().next_back().map(|(bound, count)| turns(bound, count))?;
        let kept = self.at_most.iter().find(|(bound, count)| turns(bound, count) >= total * 0.99);
        let (bound, _) = kept.filter(|_| total > 0.0)?;
        Some(if *bound == UNBOUNDED { f64::INFINITY } else { *bound as f64 / 1000.0 })
    }
}

/// Every gauge, with its labels: what must come back to where it was.
/// Empty if the server does not say.
pub(crate) fn gauges(api: &Api) -> Result<BTreeMap<String, f64>, BenchError> {
    let reply = api.open()?.call("GET", "/metrics", "")?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    Ok(if reply.status == 200 { parse_gauges(&text) } else { BTreeMap::new() })
}

/// A counter by its whole name, over all its labels; 0 if the server does not say.
pub(crate) fn counter(api: &Api, name: &str) -> Result<f64, BenchError> {
    let reply = api.open()?.call("GET", "/metrics", "")?;
    let text = String::from_utf8_lossy(&reply.body);
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    });
    Ok(values.sum())
}

/// A counter's values by one of its labels; empty if the server does not say.
pub(crate) fn series(api: &Api, name: &str, label: &str) -> Result<BTreeMap<String, f64>, BenchError> {
    let reply = api.open()?.call("GET", "/metrics", "")?;
    Ok(parse_series(&String::from_utf8_lossy(&reply.body), name, label))
}

fn parse_series(text: &str, name: &str, label: &str) -> BTreeMap<String, f64> {
    let of = format!("{label}=\"");
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        let word = series.split(',').find_map(|pair| pair.strip_prefix(&of)?.strip_suffix('"'))?;
        Some((word.to_owned(), value.parse().ok()?))
    });
    values.collect()
}

/// How evenly connections lie on the shards.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub(crate) struct Balance {
    pub(crate) each: Vec<f64>,
    pub(crate) max_to_mean: f64,
}

impl Balance {
    /// Now; `None` if the server does not say, or has no connection.
    pub(crate) fn read(api: &Api) -> Result<Option<Balance>, BenchError> {
        Ok(Balance::of(&gauges(api)?))
    }

    fn of(gauges: &BTreeMap<String, f64>) -> Option<Balance> {
        let shards = gauges.iter().filter(|(name, _)| name.starts_with(SHARD_CONNECTIONS));
        let each: Vec<f64> = shards.map(|(_, count)| *count).collect();
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let max_to_mean = each.iter().copied().fold(0.0, f64::max) / mean;
        max_to_mean.is_finite().then_some(Balance { each, max_to_mean })
    }

    /// In words.
    pub(crate) fn words(balance: Option<&Balance>) -> String {
        balance.map_or_else(
            || "not exported".into(),
            |Balance { each, max_to_mean }| format!("{each:?}, max / mean {max_to_mean:.3}"),
        )
    }
}

fn parse_gauges(text: &str) -> BTreeMap<String, f64> {
    let declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")).collect();
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let bare = name.split('{').next().unwrap_or(name);
        declared.contains(&bare).then(|| Some((name.to_owned(), value.parse().ok()?)))?
    });
    series.collect()
}

/// The row and the extra of every scenario with a server.
pub(crate) fn report_loop(figures: &mut crate::report::Figures, before: &LoopLag, after: &LoopLag) {
    let p99 = after.p99_since(before);
    let text = match p99 {
        Some(ms) if ms.is_finite() => format!("at most {ms} ms"),
        Some(_) => "above the largest bucket".into(),
        None => "not exported".into(),
    };
    figures.row("shard loop p99", text);
    figures.extra("shard_loop_p99_ms_at_most", p99.filter(|ms| ms.is_finite()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "longwire_reactor_loop_seconds_bucket{le=\"0.001\",shard=\"0\"} 5\n\
        longwire_reactor_loop_seconds_bucket{le=\"+Inf\",shard=\"0\"} 10\n";
    const AFTER: &str = "# TYPE longwire_reactor_loop_seconds histogram\n\
        longwire_reactor_loop_seconds_bucket{le=\"0.001\",shard=\"0\"} 105\n\
        longwire_reactor_loop_seconds_bucket{shard=\"0\",le=\"0.01\"} 109\n\
        longwire_reactor_loop_seconds_bucket{le=\"+Inf\",shard=\"0\"} 110\n\
        longwire_reactor_loop_seconds_bucket{le=\"0.001\",shard=\"1\"} 900\n\
        longwire_reactor_loop_seconds_bucket{le=\"+Inf\",shard=\"1\"} 900\n\
        longwire_reactor_loop_seconds_sum{shard=\"1\"} 9\n";

    #[test]
    fn the_p99_is_of_the_turns_in_between_and_over_all_shards() {
        let (before, after) = (LoopLag::parse(BEFORE), LoopLag::parse(AFTER));
        assert_eq!(after.p99_since(&before), Some(1.0));
        assert_eq!(before.p99_since(&before), None);
        assert_eq!(before.p99_since(&LoopLag::default()), Some(f64::INFINITY));
    }

    #[test]
    fn gauges_are_read_with_their_labels_and_counters_are_not() {
        let text =
            "# TYPE a gauge\na 3\n# TYPE b counter\nb_total 9\n# TYPE c gauge\nc{shard=\"1\"} 0.5\n# EOF\n";
        let gauges = parse_gauges(text);
        assert_eq!(
            gauges.into_iter().collect::<Vec<_>>(),
            [("a".into(), 3.0), ("c{shard=\"1\"}".into(), 0.5)]
        );
    }

    #[test]
    fn a_counter_is_told_apart_by_its_label() {
        let text =
            "a_total{x=\"1\",reason=\"idle\"} 3\na_total{reason=\"kicked\"} 4\na_total_b{reason=\"no\"} 5\n";
        let read = parse_series(text, "a_total", "reason");
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("idle".into(), 3.0), ("kicked".into(), 4.0)]);
    }

    #[test]
    fn the_balance_is_the_fullest_shard_against_the_mean() {
        let gauge = |shard: u8| format!("{SHARD_CONNECTIONS}shard=\"{shard}\"}}");
        let gauges = [(gauge(0), 90.0), (gauge(1), 110.0), ("longwire_connections".into(), 200.0)].into();
        let balance = Balance::of(&gauges);
        assert_eq!(balance, Some(Balance { each: vec![90.0, 110.0], max_to_mean: 1.1 }));
        assert_eq!(Balance::of(&BTreeMap::new()), None);
        assert_eq!(Balance::of(&[(gauge(0), 0.0)].into()), None);
    }

    #[test]
    fn a_server_without_the_metric_has_no_p99() {
        assert_eq!(LoopLag::parse("up 1\n").p99_since(&LoopLag::default()), None);
    }
}
