#![allow(clippy::unwrap_used)]
use super::*;
use crate::delivery::border::ShardId;
use crate::domain::ClientId;
use crate::domain::topic::InterestHash;
use bytes::Bytes;
use longwire_proto::wire::mqtt::SharedPublish;
use std::collections::BTreeMap;

const APP: AppId = AppId(4);
const NOW: WallMs = WallMs(1000);

fn groups() -> Groups {
    Groups::new(Arc::new(Interest::new(InterestHash::default())), 7)
}

fn handle(slot: u32) -> Handle {
    Handle::new(ShardId(0), slot, 1)
}

fn wish(filter: &str) -> TopicWish {
    TopicWish { filter: filter.into(), qos: 1, no_local: false, retain_as_published: false, identifier: 9 }
}

fn message(topic: &str, qos: u8, deadline: u64) -> Arc<TopicMessage> {
    let shared = SharedPublish::stored(topic, &[], b"x").unwrap().map(Bytes::from);
    Arc::new(TopicMessage::new(APP, ClientId(3), shared, (qos, false), WallMs(deadline)))
}

/// To whom, and under which number.
fn given(out: &mut Vec<TopicCommand>) -> Vec<(u32, u64)> {
    let one = |command| match command {
        TopicCommand::Deliver { to, number, identifier: 9, .. } => (to.slot(), number),
        other => panic!("{other:?}"),
    };
    out.drain(..).map(one).collect()
}

#[test]
fn each_group_gets_a_message_once_and_members_share_evenly() {
    let (mut groups, mut out) = (groups(), Vec::new());
    for slot in 0..4 {
        assert!(groups.join(APP, handle(slot), None, &wish("$share/g/a/+")));
    }
    assert!(groups.join(APP, handle(9), None, &wish("$share/other/a/+")));
    let mut per_member: BTreeMap<u32, u32> = BTreeMap::new();
    for _ in 0..400 {
        assert_eq!(groups.offer(&message("a/b", 1, 0), &mut out), Offered::Taken);
        for (slot, number) in given(&mut out) {
            *per_member.entry(slot).or_default() += 1;
            groups.settled(number, true);
        }
    }
    assert_eq!(per_member.remove(&9), Some(400));
    assert_eq!(per_member.values().sum::<u32>(), 400);
    assert!(
        per_member.len() == 4 && per_member.values().all(|count| (60..=140).contains(count)),
        "{per_member:?}"
    );
    assert_eq!(groups.offer(&message("b", 1, 0), &mut out), Offered::Nobody);
}

#[test]
fn a_member_whose_window_is_full_is_passed_over_and_what_finds_no_room_waits() {
    let (mut groups, mut out) = (groups(), Vec::new());
    groups.join(APP, handle(1), None, &wish("$share/g/a"));
    groups.join(APP, handle(2), None, &wish("$share/g/a"));
    for _ in 0..2 * UNACKED_MAX {
        assert_eq!(groups.offer(&message("a", 1, 0), &mut out), Offered::Taken);
    }
    let all = given(&mut out);
    let of_one = all.iter().filter(|(slot, _)| *slot == 1).count();
    assert_eq!((all.len(), of_one), (2 * UNACKED_MAX, UNACKED_MAX));
    for _ in 0..WAITING_MAX {
        assert_eq!(groups.offer(&message("a", 2, 2000), &mut out), Offered::Taken);
    }
    assert_eq!(groups.offer(&message("a", 1, 0), &mut out), Offered::Full);
    assert_eq!(groups.offer(&message("a", 0, 0), &mut out), Offered::Full);
    assert!(out.is_empty());
    assert_eq!(groups.census(), (1, 2, WAITING_MAX as u64, 1));
    groups.settled(all[0].1, true);
    groups.settled(all[0].1, true);
    groups.drain(NOW, &mut out);
    assert_eq!(given(&mut out).len(), 1, "one place became free");
    groups.settled(all[1].1, true);
    groups.drain(WallMs(2000), &mut out);
    assert!(out.is_empty(), "what waited too long has expired");
    assert_eq!(groups.census(), (1, 2, 0, WAITING_MAX as u64));
}

#[test]
fn what_a_member_leaves_unacked_goes_to_another_in_order() {
    let (mut groups, mut out) = (groups(), Vec::new());
    groups.join(APP, handle(1), None, &wish("$share/g/a"));
    let messages: Vec<_> = (0..3).map(|_| message("a", 1, 0)).collect();
    for message in &messages {
        assert_eq!(groups.offer(message, &mut out), Offered::Taken);
    }
    let numbers = given(&mut out);
    groups.join(APP, handle(2), None, &wish("$share/g/a"));
    groups.settled(numbers[0].1, false);
    groups.leave(handle(1));
    groups.drain(NOW, &mut out);
    let order: Vec<usize> = out
        .iter()
        .map(|command| match command {
            TopicCommand::Deliver { to, message, .. } if *to == handle(2) => {
                messages.iter().position(|other| Arc::ptr_eq(other, message)).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order.len(), 3);
    assert_eq!(order[..2], [1, 2], "what was left later stands in front");
    assert!(groups.of.keys().eq([&handle(2)]));
}

#[test]
fn a_group_has_so_many_members_and_leaves_nothing_behind() {
    let mut groups = groups();
    for slot in 0..MEMBERS_MAX as u32 {
        assert!(groups.join(APP, handle(slot), None, &wish("$share/g/a")));
    }
    assert!(!groups.join(APP, handle(9999), None, &wish("$share/g/a")));
    assert!(groups.join(APP, handle(5), None, &wish("$share/g/a")), "a change is no new member");
    assert!(!groups.part(APP, handle(9999), "$share/g/a"));
    for slot in 0..MEMBERS_MAX as u32 {
        assert!(groups.part(APP, handle(slot), "$share/g/a"));
    }
    assert_eq!(groups.census(), (0, 0, 0, 0));
    assert!(groups.apps.is_empty() && groups.of.is_empty() && !groups.interest.may_match(APP, "a"));
    assert!(!groups.join(APP, handle(1), None, &wish("not shared")));
}

/// MQTT-4.8.2-4, MQTT-4.8.2-5.
#[test]
fn what_is_in_a_members_mailbox_stays_its_own_and_counts_in_its_window() {
    let (mut groups, mut out) = (groups(), Vec::new());
    let both = TopicWish { qos: 2, ..wish("$share/g/a") };
    let client = ClientId(7);
    assert!(groups.join(APP, handle(1), Some(client), &both));
    let id = |number: u64| MessageId(number.into());
    for _ in 0..UNACKED_MAX {
        assert_eq!(groups.offer(&message("a", 2, 0), &mut out), Offered::Nobody, "the store decides");
    }
    assert_eq!(groups.offer(&message("a", 2, 0), &mut out), Offered::Taken, "it waits");
    let mail = groups.take_mail();
    assert!(out.is_empty() && mail.len() == UNACKED_MAX && groups.take_mail().is_empty());
    for one in &mail {
        assert_eq!((one.client, one.identifier), (client, 9));
        groups.mailed_as(one.number, client, id(one.number));
    }
    assert_eq!(groups.mailed_count().load(Relaxed), UNACKED_MAX as u64);
    groups.drain(NOW, &mut out);
    assert!(groups.take_mail().is_empty(), "no room");
    groups.mail_ended(ClientId(8), id(mail[0].number));
    groups.mail_ended(client, MessageId(0));
    groups.drain(NOW, &mut out);
    assert!(groups.take_mail().is_empty(), "of another");
    groups.mail_ended(client, id(mail[0].number));
    groups.mail_ended(client, id(mail[0].number));
    groups.drain(NOW, &mut out);
    let last = groups.take_mail();
    assert_eq!(last.len(), 1);
    // It goes, also before the last one is stored: what it has stays with it, and QoS 1 does not.
    groups.join(APP, handle(2), None, &both);
    assert_eq!(groups.offer(&message("a", 1, 0), &mut out), Offered::Taken);
    out.clear();
    groups.leave(handle(1));
    groups.mailed_as(last[0].number, client, id(last[0].number));
    assert_eq!(groups.mailed_count().load(Relaxed), 0);
    groups.drain(NOW, &mut out);
    assert!(out.is_empty() && groups.take_mail().is_empty());
    assert_eq!(groups.census(), (1, 1, 0, 0), "nothing is dropped");
    groups.leave(handle(2));
    assert!(groups.unacked.is_empty() && groups.mailed.is_empty());
}

#[test]
fn a_member_whose_mailbox_is_full_is_passed_over_for_a_while() {
    let (mut groups, mut out) = (groups(), Vec::new());
    let both = TopicWish { qos: 2, ..wish("$share/g/a") };
    groups.join(APP, handle(1), Some(ClientId(1)), &both);
    groups.offer(&message("a", 2, 0), &mut out);
    let refused = groups.take_mail().remove(0);
    groups.mailed_as(refused.number, ClientId(1), MessageId(1));
    groups.mail_refused(refused.number);
    groups.mail_refused(refused.number);
    assert_eq!(groups.census(), (1, 1, 0, 1), "dropped once");
    // What takes no mailbox reaches it all the same; the rest goes to another, or waits.
    assert_eq!(groups.offer(&message("a", 1, 0), &mut out), Offered::Taken);
    assert_eq!(groups.offer(&message("a", 2, 0), &mut out), Offered::Taken);
    assert_eq!((out.len(), groups.take_mail().len(), groups.census().2), (1, 0, 1));
    groups.join(APP, handle(2), Some(ClientId(2)), &both);
    groups.drain(NOW, &mut out);
    let to: Vec<ClientId> = groups.take_mail().iter().map(|mail| mail.client).collect();
    assert_eq!(to, [ClientId(2)]);
    groups.leave(handle(2));
    assert_eq!(groups.offer(&message("a", 2, 0), &mut out), Offered::Taken, "it waits");
    groups.drain(NOW, &mut out);
    assert!(groups.take_mail().is_empty());
    groups.try_mail_again();
    groups.drain(NOW, &mut out);
    assert_eq!(groups.take_mail().len(), 1);
}
