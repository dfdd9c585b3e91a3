//! `longwire schedule`: the calls of `/v1/schedules`.

use crate::Failure;
use crate::push::WhatArgs;
use crate::register::ApiArgs;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// Schedules of the app. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Make a schedule.
    Add(Box<AddArgs>),
    /// List schedules.
    List(ListArgs),
    /// Print a schedule, and what it fired.
    Show(OneArgs),
    /// Remove a schedule: it never fires again.
    Remove(OneArgs),
    /// Let a schedule fire, from now on.
    Enable(OneArgs),
    /// Keep a schedule from firing.
    Disable(OneArgs),
}

/// What `--frequency` counts.
#[derive(Clone, Copy, ValueEnum)]
enum Unit {
    Day,
    Week,
    Month,
}

#[derive(Args)]
#[command(group(ArgGroup::new("when").required(true).args(["at", "time"])))]
#[command(group(ArgGroup::new("audience").required(true).args(["all", "to", "alias", "tag"])))]
#[command(group(ArgGroup::new("content").required(true).multiple(true).args(["title", "body", "message"])))]
struct AddArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// What to call it.
    #[arg(long, default_value = "cli")]
    name: String,
    #[command(flatten)]
    push: WhatArgs,
    /// Once, then: RFC 3339 with an offset.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Again and again, at this local time of day.
    #[arg(long, value_name = "HH:MM:SS", requires_all = ["start", "end"])]
    time: Option<String>,
    /// Not before, RFC 3339 with an offset; days, weeks and months are counted from here.
    #[arg(long, value_name = "TIME", requires = "time")]
    start: Option<String>,
    /// Not after.
    #[arg(long, value_name = "TIME", requires = "time")]
    end: Option<String>,
    /// What --every counts.
    #[arg(long, value_enum, default_value = "day", requires = "time")]
    unit: Unit,
    /// Every so many days, weeks or months.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "time")]
    every: u16,
    /// On this day: MON to SUN of a week, 1 to 31 of a month; may be repeated.
    #[arg(long, value_name = "DAY", requires = "time")]
    on: Vec<String>,
    /// The IANA name of the time zone.
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "time")]
    tz: String,
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The `next` of the page before.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Schedules at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u16,
}

#[derive(Args)]
struct OneArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Its schedule_id.
    #[arg(value_name = "SCHEDULE_ID")]
    schedule: String,
}

impl OneArgs {
    fn call(&self, method: Method, change: Option<&Value>) -> Result<String, Failure> {
        self.api.ask(method, &format!("/v1/schedules/{}", self.schedule), change)
    }
}

impl AddArgs {
    fn trigger(&self) -> Value {
        let (Some(time), None) = (&self.time, &self.at) else {
            return json!({ "single": { "at": self.at } });
        };
        let point = |text: &String| text.parse::<u32>().map_or_else(|_| json!(text), |day| json!(day));
        let unit = match self.unit {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
        };
        let mut periodical = Map::from_iter([
            ("start".to_owned(), json!(self.start)),
            ("end".to_owned(), json!(self.end)),
            ("time".to_owned(), json!(time)),
            ("unit".to_owned(), json!(unit)),
            ("frequency".to_owned(), json!(self.every)),
            ("tz".to_owned(), json!(self.tz)),
        ]);
        if !self.on.is_empty() {
            periodical.insert("points".into(), self.on.iter().map(point).collect());
        }
        json!({ "periodical": periodical })
    }
}

/// Does it.
pub(crate) fn run(args: ScheduleArgs) -> Result<(), Failure> {
    let answer = match args.act {
        Act::Add(add) => {
            let request = json!({ "name": add.name, "push": add.push.request()?, "trigger": add.trigger() });
            add.api.post("/v1/schedules", &request)?
        }
        Act::List(list) => {
            // Cursors are of the URL alphabet.
            let after = list.after.map(|after| format!("&after={after}")).unwrap_or_default();
            list.api.ask(Method::GET, &format!("/v1/schedules?limit={}{after}", list.limit), None)?
        }
        Act::Show(one) => one.call(Method::GET, None)?,
        Act::Remove(one) => one.call(Method::DELETE, None)?,
        Act::Enable(one) => one.call(Method::PATCH, Some(&json!({ "enabled": true })))?,
        Act::Disable(one) => one.call(Method::PATCH, Some(&json!({ "enabled": false })))?,
    };
    if !answer.trim_end().is_empty() {
        println!("{}", answer.trim_end());
    }
    Ok(())
}
