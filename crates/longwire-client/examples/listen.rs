//! Registers a device, prints what comes and acks it.
//!
//! `cargo run -p longwire-client --example listen -- http://127.0.0.1:8080 APP_KEY [APP_SECRET]`

#![allow(clippy::print_stdout)]

use std::error::Error;

use longwire_client::{Class, Device, Incoming, RegistrationRequest, register};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(api), Some(app_key)) = (words.next(), words.next()) else {
        return Err("usage: listen API APP_KEY [APP_SECRET]".into());
    };
    let request =
        RegistrationRequest { api, app_key, app_secret: words.next(), ..RegistrationRequest::default() };
    let registration = register(&request).await?;
    println!("registered as {}", registration.registration_id);

    let mut device =
        Device::builder().app_key(request.app_key).registration(&registration).class(Class::Pc).connect()?;
    while let Some(incoming) = device.next().await {
        match incoming {
            Incoming::Message(message) => {
                println!("{} {:?} {:?}", message.id, message.kind, message.payload);
                if message.needs_ack() {
                    device.ack(message.id).await;
                }
            }
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
