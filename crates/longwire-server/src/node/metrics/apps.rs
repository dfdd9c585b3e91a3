//! The numbers of apps: those that were made first by name, all others as one, so that the series are bounded.

use super::{OTHER_APPS, Page};
use crate::delivery::AppMeter;
use crate::delivery::hub::Hub;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Name, help, whether it only rises, and where it is.
type Family = (&'static str, &'static str, bool, fn(&AppMeter) -> u64);

const FAMILIES: [Family; 5] = [
    ("longwire_app_connections", "sessions of an app", false, |meter| meter.connections),
    ("longwire_app_accepted", "messages of an app accepted", true, |meter| meter.accepted),
    ("longwire_app_delivered", "deliveries that devices of an app acked", true, |meter| meter.delivered),
    (
        "longwire_app_quota_refused",
        "what a quota of an app refused: requests, messages, devices and logins",
        true,
        |meter| meter.refused,
    ),
    (
        "longwire_app_stored_bytes",
        "bytes of messages of an app that are stored for devices, each once",
        false,
        |meter| meter.stored_bytes,
    ),
];

pub(super) fn apps(page: &mut Page<'_>, hub: &Hub, named_max: usize) -> fmt::Result {
    let meters = named(hub.app_meters(), named_max);
    for (name, help, rises, of) in FAMILIES {
        let kind = if rises { MetricType::Counter } else { MetricType::Gauge };
        let mut family = page.0.encode_descriptor(name, help, None, kind)?;
        for (key, meter) in &meters {
            let labels = [("app", key.as_str())];
            let mut one = family.encode_family(&labels)?;
            if rises {
                one.encode_counter::<NoLabelSet, _, f64>(&of(meter), None)?;
            } else {
                one.encode_gauge(&of(meter))?;
            }
        }
    }
    Ok(())
}

/// The first by name, the others added up; an app called as they are is one of them.
fn named(meters: Vec<(String, AppMeter)>, named_max: usize) -> Vec<(String, AppMeter)> {
    let mut shown = Vec::new();
    let mut others = AppMeter::default();
    for (key, meter) in meters {
        if shown.len() < named_max && key != OTHER_APPS {
            shown.push((key, meter));
            continue;
        }
        others.connections += meter.connections;
        others.accepted += meter.accepted;
        others.delivered += meter.delivered;
        others.refused += meter.refused;
        others.stored_bytes += meter.stored_bytes;
    }
    shown.push((OTHER_APPS.to_owned(), others));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_apps_are_a_few_series_and_nothing_is_lost() {
        let one = AppMeter { connections: 1, accepted: 2, delivered: 3, refused: 4, stored_bytes: 5 };
        let apps = (0..10_000).map(|number| (format!("a{number}"), one)).chain([("other".to_owned(), one)]);
        let shown = named(apps.collect(), 100);
        assert_eq!((shown.len(), shown[0].0.as_str(), shown[99].0.as_str()), (101, "a0", "a99"));
        let others = AppMeter {
            connections: 9901,
            accepted: 19_802,
            delivered: 29_703,
            refused: 39_604,
            stored_bytes: 49_505,
        };
        assert_eq!(shown[100], (OTHER_APPS.to_owned(), others));
        assert_eq!(named(Vec::new(), 0), vec![(OTHER_APPS.to_owned(), AppMeter::default())]);
    }
}
