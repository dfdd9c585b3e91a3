//! What devices send to the business, between socket and hub.

use crate::rig::{Rig, options, welcome};
use longwire_proto::wire::{DeviceFrame, ResultCode, ServerFrame, UpAck, Upstream};
use longwire_server::delivery::border::{Command, Event};
use longwire_server::gate::Level;

fn upstream(client_message: u64) -> DeviceFrame<'static> {
    DeviceFrame::Upstream(Upstream { client_message, mode: 1, kind: "image", to: "", payload: b"\x01\x02" })
}

#[test]
fn an_upstream_reaches_the_hub_whole_and_the_answer_the_device() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    device.send(&upstream(7));
    let told = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events.iter().find_map(|event| match event {
            Event::Upstream(told) => {
                assert_eq!((told.client_message, told.durable, told.to_device), (7, true, false));
                assert_eq!(
                    (&*told.kind, &told.payload[..], told.client),
                    ("image", &[1, 2][..], device.client)
                );
                Some(told.from)
            }
            _ => None,
        })
    });
    let to = told.expect("the hub was told");
    assert_eq!(to, rig.handle(1));
    let answer = UpAck { client_message: 7, outcome: ResultCode::Quota };
    rig.shards.post(to.shard(), Command::Answer { to, answer }).unwrap();
    assert_eq!(device.next(), Some(ServerFrame::UpAck(answer)));
}

/// LIMITS 7.3: what is refused first is what comes in.
#[test]
fn an_overloaded_node_tells_devices_to_send_later() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    rig.stats.pressure.set(Level::Overloaded);
    device.send(&upstream(1));
    let answer = UpAck { client_message: 1, outcome: ResultCode::Busy };
    assert_eq!(device.next(), Some(ServerFrame::UpAck(answer)));
    assert_eq!(rig.sum(|stats| &stats.upstream_shed), 1);
    rig.stats.pressure.set(Level::Calm);
    device.send(&upstream(1));
    let told = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::Upstream(_))).then_some(())
    });
    assert!(told.is_some());
    device.nothing_before_pong();
}
