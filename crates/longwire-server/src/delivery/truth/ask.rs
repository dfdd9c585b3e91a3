//! What the API asks.

use super::event::{PresenceBody, ReceiptBody};
use super::sender::Sender;
use super::webhooks::{WebhookView, check_id};
use super::{DeliveryStory, TargetState, end_stale, terms};
use crate::delivery::hub::{Core, Hub, SetError, random_bytes};
use crate::domain::app_settings::WEBHOOKS_MAX;
use crate::domain::{
    App, AppKey, AppSecret, AppSettings, ClientId, DeviceName, Invalid, MessageId, Position, Webhook,
    WebhookSecret,
};
use crate::store::port::StoreError;
use crate::store::truth::{Stream, StreamPage, StreamRequest, StreamTerms, TargetsRequest};
use std::sync::Arc;
use tokio::sync::watch;

impl Core {
    /// Brings an app's settings into use, which are in the registry and the table of apps.
    pub(in crate::delivery) async fn settings_changed(
        self: &Arc<Core>,
        before: StreamTerms,
        app: &Arc<App>,
    ) -> Result<(), StoreError> {
        if terms(app) != before {
            self.store.set_stream_terms(app.id, terms(app), false).await?;
            self.truth.presences.set(app.id, app.settings.presence);
            if app.settings.presence && !before.presence {
                let task = tokio::spawn(end_stale(self.store.clone(), self.clock.clone(), app.id));
                let mut tasks = self.truth.tasks.lock();
                tasks.retain(|task| !task.is_finished());
                tasks.push(task);
            }
        }
        self.tell_store(app);
        self.truth.webhooks.set(self, app);
        Ok(())
    }
}

impl Hub {
    /// Changes an app's settings: stored, and in use when this returns. `None`: no such app.
    ///
    /// # Errors
    /// The registry's, or the store's.
    pub async fn set_settings(
        &self,
        key: &AppKey,
        change: impl FnOnce(&mut AppSettings),
    ) -> Result<Option<Arc<App>>, StoreError> {
        let core = &self.core;
        let _turn = core.truth.settings_turn.lock().await;
        let Some(app) = core.app(key.as_str()) else { return Ok(None) };
        let mut settings = (*app.settings).clone();
        change(&mut settings);
        if settings == *app.settings {
            return Ok(Some(app));
        }
        core.registry.set_settings(app.id, &settings).await?;
        let before = terms(&app);
        let settings = Arc::new(settings);
        let Some(app) = core.change_app(key.as_str(), |app| App { settings, ..app.clone() }) else {
            return Ok(None);
        };
        core.settings_changed(before, &app).await?;
        Ok(Some(app))
    }

    /// What happened to a message on its way to a device; `None`: the app has no such message, or no such device.
    ///
    /// # Errors
    /// The store's.
    pub async fn explain(
        &self,
        app: &App,
        message: MessageId,
        name: DeviceName,
    ) -> Result<Option<DeliveryStory>, StoreError> {
        self.core.explain(app, message, name).await
    }

    /// The devices of a message, at most `max` after one; `None`: the app has no such message.
    ///
    /// # Errors
    /// The store's.
    pub async fn targets(
        &self,
        app: &App,
        message: MessageId,
        after: Option<ClientId>,
        max: u16,
    ) -> Result<Option<(Vec<TargetState>, Option<ClientId>)>, StoreError> {
        self.core.targets(TargetsRequest { app: app.id, message, after, max }).await
    }

    /// A page of receipts; `None` for a cursor that lies after all of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn receipts(
        &self,
        app: &App,
        after: Option<Position>,
        max: u16,
    ) -> Result<Option<StreamPage<ReceiptBody>>, StoreError> {
        let page = self.core.store.receipts(StreamRequest { app: app.id, after, max }).await?;
        Ok(page.map(|StreamPage { events, next, lost, more }| {
            let events = events.iter().map(ReceiptBody::from).collect();
            StreamPage { events, next, lost, more }
        }))
    }

    /// A page of presence; `None` for a cursor that lies after all of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence(
        &self,
        app: &App,
        after: Option<Position>,
        max: u16,
    ) -> Result<Option<StreamPage<PresenceBody>>, StoreError> {
        let page = self.core.store.presence_page(StreamRequest { app: app.id, after, max }).await?;
        let node = &self.core.truth.node;
        Ok(page.map(|StreamPage { events, next, lost, more }| {
            let events = events.iter().map(|event| PresenceBody::new(event, node)).collect();
            StreamPage { events, next, lost, more }
        }))
    }

    /// Changes when a stream grows.
    #[must_use]
    pub fn watch_stream(&self, app: &App, stream: Stream) -> watch::Receiver<Position> {
        self.core.store.heads().watch(app.id, stream)
    }

    /// Becomes true when whoever reads a stream without end is to end.
    #[must_use]
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.core.truth.ending.subscribe()
    }

    /// Ends those who read streams without end.
    pub fn end_streams(&self) {
        self.core.truth.ending.send_replace(true);
    }

    /// The app's webhooks and how they stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhooks(&self, app: &App) -> Result<Vec<WebhookView>, StoreError> {
        // The caller's view of the app may be older than its settings.
        let app = self.core.app(app.key.as_str());
        let mut views = Vec::new();
        for webhook in app.iter().flat_map(|app| &app.settings.webhooks) {
            let Some(app) = &app else { break };
            let mut streams = Vec::new();
            for stream in Stream::ALL {
                let wanted = if stream == Stream::Receipts { webhook.receipts } else { webhook.presence };
                if wanted {
                    let standing = self.core.store.standing(app.id, stream, &webhook.id).await?;
                    streams.push((stream, standing));
                }
            }
            let sendings = self.core.truth.webhooks.sendings(app.id, &webhook.id);
            views.push(WebhookView { webhook: webhook.clone(), sendings, streams });
        }
        Ok(views)
    }

    /// Makes a webhook, or changes it; it begins with what happens from now on. The secret, if it is a new one: it is shown this once.
    ///
    /// # Errors
    /// A URL or name that is not allowed, one webhook too many, or the registry's.
    pub async fn set_webhook(
        &self,
        app: &App,
        id: &str,
        (url, receipts, presence): (String, bool, bool),
        new_secret: bool,
    ) -> Result<Option<WebhookSecret>, SetError> {
        let core = &self.core;
        core.truth.webhooks.check(id, &url)?;
        let current = core.app(app.key.as_str());
        let known: Vec<Webhook> = current.map(|app| app.settings.webhooks.clone()).unwrap_or_default();
        let older = known.iter().find(|one| one.id == id);
        if older.is_none() && known.len() >= WEBHOOKS_MAX {
            return Err(Invalid::new("id", format!("an app has at most {WEBHOOKS_MAX} webhooks")).into());
        }
        let fresh = new_secret || older.is_none();
        let secret = match older.filter(|_| !fresh) {
            Some(older) => older.secret.clone(),
            None => WebhookSecret(format!("whsec_{}", AppSecret::from_random(random_bytes()?).reveal())),
        };
        for (stream, wanted) in [(Stream::Receipts, receipts), (Stream::Presence, presence)] {
            let standing = core.store.standing(app.id, stream, id).await?;
            match (wanted, standing.cursor) {
                (true, None) => core.store.set_cursor(app.id, stream, id, Some(standing.last)).await?,
                (false, Some(_)) => core.store.set_cursor(app.id, stream, id, None).await?,
                _ => {}
            }
        }
        let webhook = Webhook { id: id.to_owned(), url, secret: secret.clone(), receipts, presence };
        let mut full = false;
        self.set_settings(&app.key, |settings| {
            let hooks = &mut settings.webhooks;
            match hooks.iter().position(|one| one.id == webhook.id) {
                Some(at) => hooks[at] = webhook,
                None if hooks.len() >= WEBHOOKS_MAX => full = true,
                None => hooks.push(webhook),
            }
        })
        .await?;
        if full {
            return Err(Invalid::new("id", format!("an app has at most {WEBHOOKS_MAX} webhooks")).into());
        }
        Ok(fresh.then_some(secret))
    }

    /// Takes a webhook away, and with it the place up to which it was sent. False: the app has no such webhook.
    ///
    /// # Errors
    /// The registry's, or the store's.
    pub async fn remove_webhook(&self, app: &App, id: &str) -> Result<bool, StoreError> {
        let mut found = false;
        self.set_settings(&app.key, |settings| {
            let before = settings.webhooks.len();
            settings.webhooks.retain(|one| one.id != id);
            found = settings.webhooks.len() < before;
        })
        .await?;
        if found {
            for stream in Stream::ALL {
                self.core.store.set_cursor(app.id, stream, id, None).await?;
            }
        }
        Ok(found)
    }

    /// Sends one request without events, at once: `None`: the app has no such webhook; the inner error says why it failed.
    ///
    /// # Errors
    /// The name is none.
    pub async fn try_webhook(&self, app: &App, id: &str) -> Result<Option<Result<(), String>>, Invalid> {
        check_id(id)?;
        let Some(app) = self.core.app(app.key.as_str()) else { return Ok(None) };
        let Some(webhook) = app.settings.webhooks.iter().find(|one| one.id == id) else { return Ok(None) };
        let sender: Sender = self.core.truth.webhooks.sender(&self.core, &app, webhook);
        Ok(Some(sender.try_once().await))
    }
}
