//! Sends each line of standard input to the business. What was read is on disk before the next line is, and is sent by the
//! next run if this one ends before the server has it.
//!
//! `cargo run -p longwire-client --example send -- http://127.0.0.1:8080 APP_KEY FOLDER < lines`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::stdin;

use longwire_client::{Device, Incoming, RegistrationRequest, UpstreamMessage, register};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(api), Some(app_key), Some(folder)) = (words.next(), words.next(), words.next()) else {
        return Err("usage: send API APP_KEY FOLDER".into());
    };
    let registration_id = Some("line-sender".to_owned());
    let request = RegistrationRequest { api, app_key, registration_id, ..RegistrationRequest::default() };
    let registration = register(&request).await?;
    let mut device =
        Device::builder().app_key(request.app_key).registration(&registration).state(folder).connect()?;

    let mut waiting = 0;
    for line in stdin().lines() {
        device.send(UpstreamMessage::new("text", line?)).await?;
        waiting += 1;
    }
    while waiting > 0 {
        match device.next().await {
            Some(Incoming::Answered { id, outcome }) => {
                println!("{id:?}: {outcome:?}");
                waiting -= 1;
            }
            Some(_) => {}
            None => break,
        }
    }
    device.close().await;
    Ok(())
}
