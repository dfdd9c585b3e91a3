//! Random conversations of devices and business, compared with a list that is too simple to be wrong. A failure prints the
//! shortest one found.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_server::domain::{ClientId, Position, TraceId, WallMs};
use longwire_server::store::upstream::{Upstream, UpstreamOutcome, UpstreamRequest};
use proptest::prelude::*;
use std::collections::BTreeSet;
use store_stage::{APP, Stage};

#[derive(Clone, Debug)]
enum Step {
    /// One batch: devices and ids, often repeated.
    Send(Vec<(u64, u64)>),
    /// Take up to the message that is so far down the list.
    Take(usize),
    Reopen,
    Read {
        after: usize,
        at_a_time: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((1..=3_u64, 0..30_u64), 1..12).prop_map(Step::Send),
        2 => (0..60_usize).prop_map(Step::Take),
        1 => Just(Step::Reopen),
        3 => (0..60_usize, 1..6_u16).prop_map(|(after, at_a_time)| Step::Read { after, at_a_time }),
    ]
}

#[derive(Default)]
struct Model {
    known: BTreeSet<(u64, u64)>,
    /// All that was ever stored, in order.
    stored: Vec<(Position, u64, u64)>,
    taken: usize,
}

async fn send(stage: &Stage, model: &mut Model, batch: &[(u64, u64)]) {
    let messages = batch.iter().map(|&(client, client_message)| Upstream {
        client: ClientId(client),
        app: APP,
        client_message,
        kind: "text".into(),
        accepted_at: WallMs(stage.now()),
        trace: TraceId(7),
        payload: Bytes::from(client.to_string()),
    });
    let outcomes = stage.store.upstream(messages.collect()).await.unwrap();
    assert_eq!(outcomes.len(), batch.len());
    for (&(client, id), outcome) in batch.iter().zip(outcomes) {
        match outcome {
            UpstreamOutcome::Stored(position) => {
                assert!(model.known.insert((client, id)), "{client}:{id} was stored twice");
                assert!(model.stored.last().is_none_or(|last| last.0 < position));
                model.stored.push((position, client, id));
            }
            other => {
                assert_eq!(other, UpstreamOutcome::Repeated);
                assert!(model.known.contains(&(client, id)), "{client}:{id} was never stored");
            }
        }
    }
}

/// Everything after a place, page by page, is what the model holds there.
async fn read(stage: &Stage, model: &Model, after: usize, at_a_time: u16) {
    let from = after.min(model.stored.len());
    let mut place = from.checked_sub(1).map(|at| model.stored[at].0);
    let mut found = Vec::new();
    loop {
        let request = UpstreamRequest { app: APP, after: place, messages_max: at_a_time, bytes_max: 1000 };
        let page = stage.store.upstream_page(request).await.unwrap().unwrap();
        assert!(page.items.len() <= usize::from(at_a_time));
        let owner = |payload: &[u8]| std::str::from_utf8(payload).unwrap().parse().unwrap();
        found
            .extend(page.items.iter().map(|item| (item.position, owner(&item.payload), item.client_message)));
        place = Some(page.cursor);
        if page.end {
            assert_eq!(page.waiting.messages as usize, model.stored.len() - model.taken);
            break;
        }
    }
    assert_eq!(found, model.stored[from.max(model.taken)..]);
}

async fn conversation(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Send(batch) => send(&stage, &mut model, &batch).await,
            Step::Take(count) => {
                let upto = count.min(model.stored.len());
                let Some(at) = upto.checked_sub(1) else { continue };
                let left = stage.store.take_upstream(APP, model.stored[at].0).await.unwrap().unwrap();
                model.taken = model.taken.max(upto);
                assert_eq!(left.messages as usize, model.stored.len() - model.taken);
            }
            Step::Reopen => stage.reopen(folder.path()).await,
            Step::Read { after, at_a_time } => read(&stage, &model, after, at_a_time).await,
        }
    }
    read(&stage, &model, 0, 1000).await;
    stage.store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_conversation_stores_each_message_once_and_gives_it_until_it_is_taken(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(conversation(steps));
    }
}
