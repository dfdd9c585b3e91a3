//! A device that knows several nodes, and a process that holds many devices: weights, a shared brake, a stream.
//!
//! `cargo run -p longwire-client --example entry_nodes -- APP_KEY TOKEN CLIENT_ID HOST:PORT HOST:PORT …`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::pin::pin;

use futures_util::StreamExt;
use longwire_client::{AckKind, ClientId, Device, Fleet, Incoming};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(app_key), Some(token), Some(client)) = (words.next(), words.next(), words.next()) else {
        return Err("usage: entry_nodes APP_KEY TOKEN CLIENT_ID HOST:PORT…".into());
    };
    let fleet = Fleet::new(200); // connects a second, for all devices that share it
    let mut builder =
        Device::builder().app_key(app_key).token(token).client(ClientId(client.parse()?)).fleet(&fleet);
    for (index, address) in words.enumerate() {
        let weight = if index == 0 { 3 } else { 1 }; // the first is three times as strong
        builder = builder.weighted_entry_node(address, weight);
    }
    let device = builder.connect()?;
    let acker = device.acker();
    let mut incoming = pin!(device.into_stream());
    while let Some(incoming) = incoming.next().await {
        if let Incoming::Message(message) = &incoming {
            acker.say(AckKind::Received, message.id).await;
        }
        println!("{incoming:?}");
    }
    Ok(())
}
