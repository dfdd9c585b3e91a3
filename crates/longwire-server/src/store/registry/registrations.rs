//! Registrations: one task takes all that wait and gives them one transaction.

use super::database::{Database, Work};
use super::rows::{device_row, signed, unavailable, with_tags};
use super::{RegisterError, Registered, dialect, statements};
use crate::domain::{AppId, ClientId, Device, DeviceName, Registration};
use crate::store::port::StoreError;
use sqlx::AnyConnection;
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
pub(super) async fn serve(database: Database, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, TRANSACTION_MAX).await > 0 {
        let (asked, replies): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .map(|request| ((request.app, request.registration, request.may_update), request.reply))
            .unzip();
        match database.write(&Batch(&asked)).await {
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

/// Registrations that share a transaction: the app, what is asked, and whether it may update.
struct Batch<'a>(&'a [(AppId, Registration, bool)]);

impl Work for Batch<'_> {
    type Made = Vec<Result<Registered, RegisterError>>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let mut results = Vec::with_capacity(self.0.len());
        for (app, registration, may_update) in self.0 {
            results.push(register(database, connection, *app, registration, *may_update).await?);
        }
        Ok(results)
    }
}

async fn register(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    registration: &Registration,
    may_update: bool,
) -> sqlx::Result<Result<Registered, RegisterError>> {
    let name = match &registration.name {
        Some(name) => name.clone(),
        None => match issued_name() {
            Ok(name) => name,
            Err(error) => return Ok(Err(error.into())),
        },
    };
    let row = device_row(database, connection, app, &name).await?;
    if row.is_some() && !may_update {
        return Ok(Err(RegisterError::Taken));
    }
    let created = row.is_none();
    let mut device = match with_tags(database, connection, row).await? {
        Some(device) => device,
        None => insert(database, connection, app, name).await?,
    };
    update(database, connection, &mut device, registration).await?;
    Ok(Ok(Registered { device, created }))
}

/// Writes what is given and different.
async fn update(
    database: &Database,
    connection: &mut AnyConnection,
    device: &mut Device,
    registration: &Registration,
) -> sqlx::Result<()> {
    let client = signed(device.client);
    if let Some(alias) = &registration.alias
        && device.alias.as_ref() != Some(alias)
    {
        sqlx::query(database.sql(statements::SET_ALIAS))
            .bind(alias.as_str())
            .bind(client)
            .execute(&mut *connection)
            .await?;
        device.alias = Some(alias.clone());
    }
    if let Some(tags) = &registration.tags
        && device.tags != *tags
    {
        sqlx::query(database.sql(statements::REMOVE_TAGS)).bind(client).execute(&mut *connection).await?;
        for tag in tags {
            sqlx::query(database.sql(statements::INSERT_TAG))
                .bind(client)
                .bind(tag.as_str())
                .execute(&mut *connection)
                .await?;
        }
        device.tags.clone_from(tags);
    }
    if let Some(attributes) = &registration.attributes
        && device.attributes != *attributes
    {
        sqlx::query(database.sql(statements::REMOVE_ATTRIBUTES))
            .bind(client)
            .execute(&mut *connection)
            .await?;
        for (name, value) in attributes {
            sqlx::query(database.sql(statements::INSERT_ATTRIBUTE))
                .bind(client)
                .bind(name.as_str())
                .bind(value.as_str())
                .execute(&mut *connection)
                .await?;
        }
        device.attributes.clone_from(attributes);
    }
    Ok(())
}

async fn insert(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    name: DeviceName,
) -> sqlx::Result<Device> {
    let query = sqlx::query(database.dialect.numbering(statements::INSERT_DEVICE, "client"))
        .bind(i64::from(app.0))
        .bind(name.as_str());
    let client = dialect::insert(database.dialect, connection, query).await?;
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
