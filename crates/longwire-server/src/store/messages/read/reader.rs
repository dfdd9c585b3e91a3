//! The reader threads and what they are asked.

use super::devices::{self, DevicesQuestion};
use super::{login, lookup, page};
use crate::domain::{Alias, AppId, ClientId, Counts, DeviceName, MessageId, ScheduleId, WallMs};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::pace::read as pace;
use crate::store::messages::sessions::read as sessions;
use crate::store::messages::truth::{Ask, read as truth};
use crate::store::messages::upstream::read as upstream;
use crate::store::pace::{DueAt, DuePage, Schedule, SchedulePage, Spreading};
use crate::store::port::{
    DeviceView, LoginView, MessageView, OnceLook, Page, PageRequest, StoreError, StoreOptions,
};
use crate::store::sessions::{KeptSession, Retained, SessionView};
use crate::store::upstream::{UpstreamPage, UpstreamRequest};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A question to the readers.
pub(crate) enum Question {
    Logins(Vec<ClientId>, Reply<Vec<Option<LoginView>>>),
    Page(PageRequest, Reply<Page>),
    Names(AppId, Vec<DeviceName>, Reply<Vec<Option<ClientId>>>),
    Aliases(AppId, Vec<Alias>, Reply<Vec<Vec<ClientId>>>),
    Message(AppId, MessageId, Reply<Option<MessageView>>),
    Books(AppId, Reply<Counts>),
    AppsOf(Vec<MessageId>, Reply<Vec<Option<(AppId, bool)>>>),
    Device(AppId, DeviceName, Reply<Option<DeviceView>>),
    Devices(DevicesQuestion),
    Once(AppId, [u8; 16], Reply<OnceLook>),
    Upstream(UpstreamRequest, Reply<Option<UpstreamPage>>),
    SessionsOf(Vec<ClientId>, Reply<Vec<Option<SessionView>>>),
    Sessions(Option<ClientId>, usize, Reply<Vec<KeptSession>>),
    Retained(Option<(AppId, Box<str>)>, usize, Reply<Vec<Retained>>),
    Schedule(AppId, ScheduleId, Reply<Option<Schedule>>),
    Schedules(AppId, Option<ScheduleId>, usize, Reply<SchedulePage>),
    Due(Option<DueAt>, WallMs, usize, Reply<DuePage>),
    Spreading(MessageId, Reply<Option<Spreading>>),
    Spreadings(Option<MessageId>, usize, Reply<Vec<Spreading>>),
    Truth(Ask),
}

/// What each reader thread runs, until nobody can ask any more.
pub(crate) fn run(engine: &Engine, options: &StoreOptions, questions: &Mutex<mpsc::Receiver<Question>>) {
    loop {
        // One thread waits at the queue, the others for the lock.
        let question = questions.lock().blocking_recv();
        match question {
            Some(question) => answer(engine, options, question),
            None => return,
        }
    }
}

fn answer(engine: &Engine, options: &StoreOptions, question: Question) {
    match question {
        Question::Logins(clients, reply) => give(reply, || login::views(engine, &clients)),
        Question::Page(request, reply) => give(reply, || page::page(engine, options, &request)),
        Question::Names(app, names, reply) => give(reply, || lookup::names(engine, app, &names)),
        Question::Aliases(app, aliases, reply) => give(reply, || lookup::aliases(engine, app, &aliases)),
        Question::Message(app, message, reply) => give(reply, || lookup::message(engine, app, message)),
        Question::Books(app, reply) => give(reply, || lookup::books(engine, app)),
        Question::AppsOf(messages, reply) => give(reply, || lookup::apps_of(engine, &messages)),
        Question::Device(app, name, reply) => give(reply, || lookup::device(engine, app, &name)),
        Question::Devices(question) => devices::answer(engine, question),
        Question::Once(app, key, reply) => give(reply, || lookup::once(engine, options, app, key)),
        Question::Upstream(request, reply) => give(reply, || upstream::page(engine, &request)),
        Question::SessionsOf(clients, reply) => give(reply, || sessions::of(engine, &clients)),
        Question::Sessions(after, max, reply) => give(reply, || sessions::sessions(engine, after, max)),
        Question::Retained(after, max, reply) => {
            give(reply, || sessions::retained(engine, after.as_ref(), max));
        }
        Question::Schedule(app, id, reply) => give(reply, || pace::schedule(engine, app, id)),
        Question::Schedules(app, after, max, reply) => {
            give(reply, || pace::schedules(engine, app, after, max));
        }
        Question::Due(after, now, max, reply) => give(reply, || pace::due(engine, after, now, max)),
        Question::Spreading(message, reply) => give(reply, || pace::spreading(engine, message)),
        Question::Spreadings(after, max, reply) => give(reply, || pace::open_spreadings(engine, after, max)),
        Question::Truth(ask) => truth::answer(engine, (options.clock)(), ask),
    }
}

pub(crate) fn give<T>(reply: Reply<T>, read: impl FnOnce() -> Result<T, Fault>) {
    // The engine asserts on some damage; the thread must live on.
    let result = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Fault("the engine could not read its tables".to_owned())));
    // Whoever asked may be gone.
    let _ = reply.send(result.map_err(|fault| {
        tracing::error!(cause = %fault.0, "the message store could not be read");
        fault.into()
    }));
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Question")
    }
}

/// Shared by the threads of one store.
pub(crate) type Questions = Arc<Mutex<mpsc::Receiver<Question>>>;
