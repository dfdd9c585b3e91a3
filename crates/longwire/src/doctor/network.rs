//! Network cards: whether packets are handled on more than one core (000-33, 003-31, 003-32).

use super::Look;
use super::finding::{Finding, Level};
use longwire_server::node::machine::Machine;
use std::collections::BTreeSet;

/// Interrupts or queues of one card that a command names; the rest follow the pattern.
const NAMED_MAX: usize = 16;
/// Entries of all queues' flow tables together; the same as `net.core.rps_sock_flow_entries`.
const FLOW_ENTRIES: u64 = 32_768;
/// Fewer packets than this since the start say nothing about their spread.
const PACKETS_TELLING: u64 = 100_000;

/// A finding for each card that is a device and not down, and one for where packets were handled so far.
pub(super) fn cards(look: &Look) -> Vec<Finding> {
    let machine = &look.machine;
    let names = machine.names("sys/class/net").into_iter();
    let cards = names.filter(|name| {
        let folder = format!("sys/class/net/{name}");
        machine.has(format!("{folder}/device"))
            && machine.text(format!("{folder}/operstate")).as_deref() != Some("down")
    });
    let mut findings: Vec<Finding> = cards.map(|name| judge(machine, &name)).collect();
    findings.extend(softirqs(machine));
    findings
}

fn judge(machine: &Machine, card: &str) -> Finding {
    let subject = format!("network card {card}");
    let cores = machine.cores();
    let folder = format!("sys/class/net/{card}/queues");
    let queues: Vec<String> =
        machine.names(&folder).into_iter().filter(|name| name.starts_with("rx-")).collect();
    if cores == 1 {
        return Finding::well(subject, "one core: nothing to spread");
    }
    let spread_in_software = queues.iter().any(|queue| {
        let mask = machine.text(format!("{folder}/{queue}/rps_cpus")).unwrap_or_default();
        mask.chars().filter(|digit| *digit != ',').any(|digit| digit != '0')
    });
    let interrupts = interrupts(machine, card);
    let used: BTreeSet<&String> = interrupts.iter().map(|(_, cpus)| cpus).collect();
    let found = format!(
        "{} receive queues, {} interrupts on {} sets of cores, RPS {}, {cores} cores",
        queues.len(),
        interrupts.len(),
        used.len(),
        if spread_in_software { "on" } else { "off" }
    );
    if spread_in_software || (queues.len() as u64 >= cores && used.len() != 1) {
        return Finding::well(subject, found);
    }
    if queues.len() > 1 && interrupts.len() > 1 && used.len() == 1 {
        let why = "every queue interrupts the same core: it is full of soft interrupts while the others wait";
        let set = interrupts.iter().take(NAMED_MAX).enumerate().map(|(turn, (number, _))| {
            format!("echo {} > /proc/irq/{number}/smp_affinity_list", turn as u64 % cores)
        });
        return Finding::new(Level::Warning, subject, found, why).mended_by(
            set.collect::<Vec<_>>().join("; ") + "   # and stop irqbalance, or it moves them back",
        );
    }
    let why = "packets are handled on fewer cores than there are; RPS spreads them by connection, 20 % and more where one core \
               was full";
    let level = if queues.len() <= 1 { Level::Warning } else { Level::Advice };
    let entries = FLOW_ENTRIES / queues.len().max(1) as u64;
    let set = queues.iter().take(NAMED_MAX).map(|queue| {
        let queue = format!("/{folder}/{queue}");
        format!("echo {} > {queue}/rps_cpus; echo {entries} > {queue}/rps_flow_cnt", mask_of(cores))
    });
    Finding::new(level, subject, found, why).mended_by(set.collect::<Vec<_>>().join("; "))
}

/// The mask of so many cores, in groups of 32 bits.
fn mask_of(cores: u64) -> String {
    let groups = cores.div_ceil(32).max(1);
    let first = match cores % 32 {
        0 => u32::MAX,
        rest => (1_u32 << rest) - 1,
    };
    let rest = (1..groups).map(|_| ",ffffffff");
    format!("{first:x}") + &rest.collect::<String>()
}

/// The receiving interrupts of a card, and the cores that take each.
fn interrupts(machine: &Machine, card: &str) -> Vec<(u64, String)> {
    let device = machine.link(format!("sys/class/net/{card}/device"));
    let text = machine.text("proc/interrupts").unwrap_or_default();
    let ours = text.lines().filter_map(|line| {
        let (number, rest) = line.trim().split_once(':')?;
        let action = rest.split_whitespace().last()?;
        let of = |name: &str| {
            action.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':']))
        };
        let receives =
            !["-config", "-event", "-tx", "-output", "-control"].iter().any(|word| action.contains(word));
        let named = of(card) || device.as_deref().is_some_and(of);
        (named && receives).then_some(number.trim().parse::<u64>().ok()?)
    });
    ours.map(|number| {
        let cpus = ["effective_affinity_list", "smp_affinity_list"].iter().find_map(|file| {
            machine.text(format!("proc/irq/{number}/{file}")).filter(|list| !list.is_empty())
        });
        (number, cpus.unwrap_or_else(|| "unknown".to_owned()))
    })
    .collect()
}

/// Where received packets were handled since the machine started.
fn softirqs(machine: &Machine) -> Option<Finding> {
    let text = machine.text("proc/softirqs")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("NET_RX:"))?;
    let counts: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (sum, most) = (counts.iter().sum::<u64>(), counts.iter().copied().max()?);
    if machine.cores() == 1 || sum < PACKETS_TELLING {
        return None;
    }
    let share = most as f64 * 100.0 / sum as f64;
    let found = format!("{share:.0} % of receive interrupts since the start were handled on one core");
    if most < sum / 10 * 8 {
        return Some(Finding::well("spread of packets", found));
    }
    let why = "that core is the limit of the whole machine; see the network cards above";
    Some(Finding::new(Level::Advice, "spread of packets", found, why))
}

#[cfg(test)]
mod tests {
    use super::mask_of;

    #[test]
    fn a_mask_has_a_bit_for_each_core() {
        assert_eq!([1, 4, 31, 32].map(mask_of), ["1", "f", "7fffffff", "ffffffff"]);
        assert_eq!([33, 64, 70].map(mask_of), ["1,ffffffff", "ffffffff,ffffffff", "3f,ffffffff,ffffffff"]);
    }
}
