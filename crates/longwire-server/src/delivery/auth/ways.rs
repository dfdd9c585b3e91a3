//! The ways in that an app has beside device tokens, ready for use.

use super::super::hub::Core;
use super::call_out::CallOut;
use super::jwt::Jwt;
use crate::domain::login_ways::LoginWays;
use crate::domain::{App, AppId, DeviceName, Invalid};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often files of keys are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// See [`LoginWays`].
#[derive(Default)]
pub(in super::super) struct Ways {
    pub(in super::super) jwt: Option<Jwt>,
    pub(in super::super) call_out: Option<CallOut>,
    certificates: HashMap<String, DeviceName>,
}

impl Ways {
    /// # Errors
    /// A key or a URL that is none.
    pub(in super::super) fn new(ways: &LoginWays) -> Result<Ways, Invalid> {
        ways.check()?;
        Ok(Ways {
            jwt: ways.jwt.as_ref().map(Jwt::new).transpose()?,
            call_out: ways.call_out.as_ref().map(CallOut::new).transpose()?,
            certificates: ways.certificates.clone(),
        })
    }

    /// The device that a verified certificate is for.
    pub(super) fn device_of(&self, common_name: &str) -> Option<&DeviceName> {
        self.certificates.get(common_name)
    }

    /// Reads files of keys that changed; blocks.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(in super::super) fn reload(&self) -> Result<(), Invalid> {
        self.jwt.as_ref().map_or(Ok(()), |jwt| jwt.reload(false))
    }
}

/// The ways of all apps that have any.
#[derive(Default)]
pub(in super::super) struct WaysOfApps {
    by_app: RwLock<HashMap<AppId, Arc<Ways>>>,
}

impl WaysOfApps {
    /// Of the apps as they are stored; reads their files of keys, at the start. What cannot be used is logged and lets nobody in.
    pub(in super::super) fn load<'a>(apps: impl Iterator<Item = &'a App>) -> WaysOfApps {
        let ways = WaysOfApps::default();
        for app in apps {
            match Ways::new(&app.login_ways) {
                Ok(made) => {
                    if let Err(problem) = made.reload() {
                        tracing::error!(app = app.key.as_str(), %problem, "keys for JWTs were not read");
                    }
                    ways.set(app.id, Arc::new(made));
                }
                Err(problem) => {
                    tracing::error!(app = app.key.as_str(), %problem, "the app's login ways cannot be used");
                }
            }
        }
        ways
    }

    pub(in super::super) fn of(&self, app: AppId) -> Option<Arc<Ways>> {
        self.by_app.read().get(&app).cloned()
    }

    pub(in super::super) fn set(&self, app: AppId, ways: Arc<Ways>) {
        let is_empty = ways.jwt.is_none() && ways.call_out.is_none() && ways.certificates.is_empty();
        let mut by_app = self.by_app.write();
        if is_empty {
            by_app.remove(&app);
        } else {
            by_app.insert(app, ways);
        }
    }

    fn all(&self) -> Vec<(AppId, Arc<Ways>)> {
        self.by_app.read().iter().map(|(app, ways)| (*app, ways.clone())).collect()
    }

    /// Reads all files of keys, whether they look changed or not; blocks. How many there are, and what is wrong with which.
    pub(in super::super) fn read_again(&self) -> (usize, Vec<(AppId, String)>) {
        let (mut files, mut problems) = (0, Vec::new());
        for (app, ways) in self.all() {
            let Some(jwt) = ways.jwt.as_ref().filter(|jwt| jwt.has_file()) else { continue };
            files += 1;
            if let Err(invalid) = jwt.reload(true) {
                problems.push((app, invalid.to_string()));
            }
        }
        (files, problems)
    }

    /// Reads files of keys that changed; blocks.
    fn reload(&self, problems: &mut HashMap<AppId, String>) {
        for (app, ways) in self.all() {
            let problem = ways.reload().err().map(|invalid| invalid.to_string());
            if let Some(problem) = &problem
                && problems.get(&app) != Some(problem)
            {
                tracing::warn!(app = app.0, problem, "keys for JWTs were not read; those read before hold");
            }
            match problem {
                Some(problem) => drop(problems.insert(app, problem)),
                None => drop(problems.remove(&app)),
            }
        }
    }
}

/// Reads files of keys when they change, until the hub is gone.
pub(in super::super) async fn watch(core: Weak<Core>) {
    // Problems that were told.
    let mut problems = HashMap::new();
    loop {
        let Some(held) = core.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            held.auth.ways.reload(&mut problems);
            problems
        });
        problems = looked.await.unwrap_or_default();
        tokio::time::sleep(LOOK).await;
    }
}
