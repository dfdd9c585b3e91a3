//! Publishes each line of standard input to a topic, and shows what others publish to its neighbours.
//!
//! `cargo run -p longwire-client --example topics -- http://127.0.0.1:8080 APP_KEY NAME < lines`
//!
//! The app's topic rules have to allow it: `allow all room/#`.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::stdin;

use longwire_client::{Device, Incoming, Publication, RegistrationRequest, Subscription, register};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(api), Some(app_key), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err("usage: topics API APP_KEY NAME".into());
    };
    let topic = format!("room/{name}");
    let request =
        RegistrationRequest { api, app_key, registration_id: Some(name), ..RegistrationRequest::default() };
    let registration = register(&request).await?;
    let mut device = Device::builder().app_key(request.app_key).registration(&registration).connect()?;
    device.subscribe(Subscription::new("room/+").kept().without_own()).await?;

    let (read, mut lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        stdin().lines().map_while(Result::ok).try_for_each(|line| read.blocking_send(line))
    });
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => drop(device.publish(Publication::new(&topic, line)).await?),
                None => break,
            },
            incoming = device.next() => match incoming {
                Some(Incoming::Message(message)) => {
                    if let Some(published) = &message.published {
                        println!("{}: {}", published.topic, String::from_utf8_lossy(&published.content));
                    }
                    if message.needs_ack() {
                        device.ack(message.id).await;
                    }
                }
                Some(Incoming::Subscribed { filter, outcome }) => println!("{filter}: {outcome:?}"),
                Some(_) => {}
                None => break,
            },
        }
    }
    device.close().await;
    Ok(())
}
