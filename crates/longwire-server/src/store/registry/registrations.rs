//! Registrations: one task takes all that wait and gives them one transaction.

use super::rows::{DeviceRow, signed, unavailable, with_tags};
use super::{RegisterError, Registered, dialect};
use crate::domain::{AppId, ClientId, Device, DeviceName, Registration};
use crate::store::port::StoreError;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

/// Registrations in one transaction at most.
const TRANSACTION_MAX: usize = 512;
/// Registrations that may wait; a caller beyond waits for room.
pub(super) const QUEUED_MAX: usize = 2048;

/// A registration that waits.
pub(super) struct Request {
    pub(super) app: AppId,
    pub(super) registration: Registration,
    pub(super) may_update: bool,
    pub(super) reply: oneshot::Sender<Result<Registered, RegisterError>>,
}

/// Serves until every handle to the registry is gone, or it was closed.
pub(super) async fn serve(pool: SqlitePool, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, TRANSACTION_MAX).await > 0 {
        let (asked, replies): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .map(|request| ((request.app, request.registration, request.may_update), request.reply))
            .unzip();
        match transaction(&pool, asked).await {
            Ok(results) => {
                for (reply, result) in replies.into_iter().zip(results) {
                    // Whoever asked may be gone; the device stays registered, as if the answer was lost.
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, "registrations failed");
                for reply in replies {
                    let _ = reply.send(Err(unavailable(&error).into()));
                }
            }
        }
    }
}

async fn transaction(
    pool: &SqlitePool,
    asked: Vec<(AppId, Registration, bool)>,
) -> sqlx::Result<Vec<Result<Registered, RegisterError>>> {
    // Immediate: it takes the write lock at once, so that it never has to give up in the middle.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(asked.len());
    for (app, registration, may_update) in asked {
        results.push(register(&mut transaction, app, registration, may_update).await?);
    }
    transaction.commit().await?;
    Ok(results)
}

async fn register(
    connection: &mut SqliteConnection,
    app: AppId,
    registration: Registration,
    may_update: bool,
) -> sqlx::Result<Result<Registered, RegisterError>> {
    let name = match registration.name {
        Some(name) => name,
        None => match issued_name() {
            Ok(name) => name,
            Err(error) => return Ok(Err(error.into())),
        },
    };
    let row: Option<DeviceRow> = sqlx::query_as(dialect::DEVICE_BY_NAME)
        .bind(i64::from(app.0))
        .bind(name.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if row.is_some() && !may_update {
        return Ok(Err(RegisterError::Taken));
    }
    let created = row.is_none();
    let mut device = match with_tags(connection, row).await? {
        Some(device) => device,
        None => insert(connection, app, name).await?,
    };
    if let Some(alias) = registration.alias
        && device.alias.as_ref() != Some(&alias)
    {
        sqlx::query(dialect::SET_ALIAS)
            .bind(signed(device.client))
            .bind(alias.as_str())
            .execute(&mut *connection)
            .await?;
        device.alias = Some(alias);
    }
    if let Some(tags) = registration.tags
        && device.tags != tags
    {
        sqlx::query(dialect::REMOVE_TAGS).bind(signed(device.client)).execute(&mut *connection).await?;
        for tag in &tags {
            sqlx::query(dialect::INSERT_TAG)
                .bind(signed(device.client))
                .bind(tag.as_str())
                .execute(&mut *connection)
                .await?;
        }
        device.tags = tags;
    }
    if let Some(attributes) = registration.attributes
        && device.attributes != attributes
    {
        sqlx::query(dialect::REMOVE_ATTRIBUTES).bind(signed(device.client)).execute(&mut *connection).await?;
        for (name, value) in &attributes {
            sqlx::query(dialect::INSERT_ATTRIBUTE)
                .bind(signed(device.client))
                .bind(name.as_str())
                .bind(value.as_str())
                .execute(&mut *connection)
                .await?;
        }
        device.attributes = attributes;
    }
    Ok(Ok(Registered { device, created }))
}

async fn insert(connection: &mut SqliteConnection, app: AppId, name: DeviceName) -> sqlx::Result<Device> {
    let (client,): (i64,) = sqlx::query_as(dialect::INSERT_DEVICE)
        .bind(i64::from(app.0))
        .bind(name.as_str())
        .bind(None::<&str>)
        .fetch_one(connection)
        .await?;
    let client = ClientId(client.unsigned_abs());
    Ok(Device { app, client, name, alias: None, tags: Vec::new(), attributes: Vec::new(), generation: 0 })
}

/// 16 random bytes in hexadecimal: nobody guesses another device's name, and two never meet.
fn issued_name() -> Result<DeviceName, StoreError> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    DeviceName::parse("name", &text).map_err(|invalid| StoreError::Unavailable(invalid.to_string()))
}
