//! `/v1/schedules`: pushes that are made later, once or again and again.

use super::push_request::PushRequest;
use super::schedule_request::{self, TriggerField};
use crate::api::Api;
use crate::api::exchange::body::{Json, Segment, parse};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::object::{object, object_if_any};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::api::exchange::trace::Trace;
use crate::delivery::over_time::{NewSchedule, Run, Schedule, ScheduleEdit, Standing};
use crate::domain::{Invalid, ScheduleId, Trigger, WallMs};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// The word of cursors.
const LIST: &str = "schedules";

/// A schedule to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ScheduleRequest {
    /// What people call it, 1 to 128 bytes; it need not be unique.
    #[schema(max_length = 128, example = "monday offers")]
    name: String,
    /// What is pushed each time, as for `POST /v1/push` and as long; `send_at`, `validate_only` and `cid` are not
    /// allowed in it.
    #[schema(value_type = PushRequest)]
    push: Box<RawValue>,
    #[serde(deserialize_with = "object")]
    trigger: TriggerField,
}

/// What is to be changed; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ScheduleChange {
    /// Whether it fires. One that is enabled again fires from now on; what it missed meanwhile is left out.
    #[schema(example = false)]
    enabled: Option<bool>,
    /// What people call it.
    #[schema(max_length = 128, example = "monday offers")]
    name: Option<String>,
    /// When it fires, from now on; also of one that has finished.
    #[serde(default, deserialize_with = "object_if_any")]
    trigger: Option<TriggerField>,
    /// What is pushed from now on.
    #[schema(value_type = Option<PushRequest>)]
    push: Option<Box<RawValue>>,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ScheduleAnswer {
    /// Its id, 32 hexadecimal digits.
    #[schema(example = "019aa2f0b5c87c3e9f4a6d1e2b3c4d5e")]
    schedule_id: String,
    /// What people call it.
    name: String,
    /// `waiting`; `disabled`; `finished`: it has fired for the last time, and is forgotten seven days later.
    #[schema(example = "waiting")]
    state: &'static str,
    /// It fires, or has fired for the last time.
    enabled: bool,
    /// When it fires next; null if it does not.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it fires.
    trigger: TriggerField,
    /// What is pushed, as it was sent.
    #[schema(value_type = PushRequest)]
    push: Box<RawValue>,
    /// What it fired, the last 100, oldest first; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    runs: Option<Vec<RunAnswer>>,
}

/// One firing.
#[derive(Serialize, ToSchema)]
struct RunAnswer {
    /// When it was due.
    #[schema(format = DateTime)]
    due_at: String,
    /// When it fired.
    #[schema(format = DateTime)]
    fired_at: String,
    /// It was due before the server began, or fired 5 s after its time or later.
    late: bool,
    /// Seconds from due to fired, rounded down.
    #[schema(example = 0)]
    late_by_s: u64,
    /// The message; null if there is none.
    msg_id: Option<String>,
    /// Why there is none, in the words of a refused push, or `expired`: its `expire_at` had passed; `unknown_app`; `store_unavailable`:
    /// until its ttl was over.
    #[schema(example = "nobody_matches")]
    error: Option<String>,
}

/// Schedules, in the order in which they were made.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct SchedulesAnswer {
    /// At most `limit`, and about a mebibyte.
    #[schema(max_items = 1000)]
    items: Vec<ScheduleAnswer>,
    /// Where the next page begins; null if there is none.
    next: Option<String>,
}

/// Make a schedule.
///
/// What fires is one commit with the step of its schedule: once, whatever fails between; with a ttl of 0, or to a topic, at most
/// once. What was due while the server was down fires when it starts and is marked late; of a periodical one only the last
/// occurrence.
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules", request_body = ScheduleRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, body = ScheduleAnswer, description = "Made, durably."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The push or the body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "`too_many_schedules`: the app has 100,000 that have not finished; or too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was stored."),
        (status = 503, body = FaultBody, description = "Draining, storage full, or the store is unavailable; nothing was stored."),
    )
)]
pub(in crate::api) async fn make(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    Json(request): Json<ScheduleRequest>,
) -> Result<(StatusCode, axum::Json<ScheduleAnswer>), Fault> {
    let trigger = request.trigger.into_trigger()?;
    let push = push(&request.push, first(&trigger, api.hub.now())?)?;
    let new = NewSchedule { name: schedule_request::name(&request.name)?, trigger, push, trace: trace.id };
    let schedule = api.hub.add_schedule(&caller.app, new).await?;
    Ok((StatusCode::CREATED, axum::Json(answer(schedule, true)?)))
}

/// Schedules of the app.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", params(PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = SchedulesAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "Not a cursor of this list, or another field is not allowed."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<SchedulesAnswer>, Fault> {
    let after = page::after::<u128>(LIST, query.after.as_deref())?.map(ScheduleId);
    let page = api.hub.schedules(&caller.app, after, page::limit(query.limit)?).await?;
    let last = page.schedules.last().filter(|_| page.more);
    let next = last.map(|last| page::cursor(LIST, last.id.0));
    let items = page.schedules.into_iter().map(|schedule| answer(schedule, false));
    Ok(axum::Json(SchedulesAnswer { items: items.collect::<Result<_, _>>()?, next }))
}

/// A schedule, and what it fired.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule_id}", tag = "schedules",
    params(("schedule_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ScheduleAnswer, description = "The schedule."),
        (status = 400, body = FaultBody, description = "Not a schedule's id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such schedule."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<axum::Json<ScheduleAnswer>, Fault> {
    let found = api.hub.schedule(&caller.app, id_of(&id)?).await?;
    answer(found.ok_or_else(unknown)?, true).map(axum::Json)
}

/// Change a schedule. What is answered holds for every firing after it.
#[utoipa::path(
    patch, path = "/v1/schedules/{schedule_id}", tag = "schedules", request_body = ScheduleChange,
    params(("schedule_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ScheduleAnswer, description = "Changed, durably."),
        (status = 400, body = FaultBody, description = "A field is not allowed, or the trigger does not fire any more."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such schedule."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The push or the body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "`too_many_schedules`, when one that had finished is to fire again; or too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was stored."),
        (status = 503, body = FaultBody, description = "Draining, or the store is unavailable; nothing was changed."),
    )
)]
pub(in crate::api) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
    Json(request): Json<ScheduleChange>,
) -> Result<axum::Json<ScheduleAnswer>, Fault> {
    let id = id_of(&id)?;
    let trigger = request.trigger.map(TriggerField::into_trigger).transpose()?;
    let now = api.hub.now();
    let at = match &trigger {
        Some(trigger) => first(trigger, now)?,
        None => now,
    };
    let edit = ScheduleEdit {
        enabled: request.enabled,
        name: request.name.as_deref().map(schedule_request::name).transpose()?,
        trigger,
        push: request.push.map(|text| push(&text, at)).transpose()?,
    };
    let changed = api.hub.edit_schedule(&caller.app, id, edit).await?;
    answer(changed.ok_or_else(unknown)?, true).map(axum::Json)
}

/// Remove a schedule: it never fires again. What it fired stays.
#[utoipa::path(
    delete, path = "/v1/schedules/{schedule_id}", tag = "schedules",
    params(("schedule_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "Removed, durably."),
        (status = 400, body = FaultBody, description = "Not a schedule's id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such schedule."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was removed."),
        (status = 503, body = FaultBody, description = "Draining, or the store is unavailable; nothing was changed."),
    )
)]
pub(in crate::api) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Fault> {
    match api.hub.remove_schedule(&caller.app, id_of(&id)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown()),
    }
}

fn id_of(text: &str) -> Result<ScheduleId, Fault> {
    ScheduleId::parse(text).ok_or_else(|| Fault::invalid("schedule_id: must be 32 hexadecimal digits"))
}

fn unknown() -> Fault {
    Fault::not_found("no such schedule")
}

/// When a trigger fires first.
fn first(trigger: &Trigger, now: WallMs) -> Result<WallMs, Fault> {
    trigger.next_after(now).ok_or_else(|| Invalid::new("trigger", "has no time in the future").into())
}

/// A push that can be pushed at `at`.
fn push(text: &RawValue, at: WallMs) -> Result<Bytes, Fault> {
    let read = || {
        let request: PushRequest = parse(text.get().as_bytes())?;
        if request.send_at()?.is_some() {
            return Err(Invalid::new("options.send_at", "the trigger says when").into());
        }
        if request.validates_only() {
            return Err(Invalid::new("options.validate_only", "not in a schedule").into());
        }
        if request.cid.is_some() {
            return Err(Invalid::new("cid", "not in a schedule, which fires each time once").into());
        }
        schedule_request::stored(request, text, at)
    };
    read().map_err(|fault: Fault| fault.within("push"))
}

fn answer(schedule: Schedule, runs: bool) -> Result<ScheduleAnswer, Fault> {
    let text = String::from_utf8(schedule.push.to_vec()).ok();
    let push = text.and_then(|text| RawValue::from_string(text).ok());
    Ok(ScheduleAnswer {
        schedule_id: schedule.id.to_string(),
        name: schedule.name.into(),
        state: match schedule.standing {
            Standing::Waiting(_) => "waiting",
            Standing::Disabled => "disabled",
            Standing::Finished(_) => "finished",
        },
        enabled: schedule.standing != Standing::Disabled,
        next_at: match schedule.standing {
            Standing::Waiting(at) => Some(rfc3339(at)),
            Standing::Disabled | Standing::Finished(_) => None,
        },
        created_at: rfc3339(schedule.made_at),
        trigger: TriggerField::of(&schedule.trigger),
        push: push.ok_or_else(|| Fault::not_found("the push of this schedule cannot be read"))?,
        runs: runs.then(|| schedule.runs.iter().map(run).collect()),
    })
}

fn run(run: &Run) -> RunAnswer {
    RunAnswer {
        due_at: rfc3339(run.due),
        fired_at: rfc3339(run.fired_at),
        late: run.late,
        late_by_s: run.fired_at.0.saturating_sub(run.due.0) / 1000,
        msg_id: run.message.map(|message| message.to_string()),
        error: run.error.as_deref().map(str::to_owned),
    }
}
