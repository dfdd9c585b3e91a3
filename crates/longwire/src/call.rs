//! Calls of the API by verbs that print what it answers.

use crate::register::ApiArgs;
use crate::{Failure, on_runtime};
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// Longest wait for an answer: the server may take its time, and says so itself before this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Which part of a list.
#[derive(Args)]
pub(crate) struct PageArgs {
    /// The `next` of the page before.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Items at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

impl PageArgs {
    /// The query, with its `?`.
    pub(crate) fn query(&self) -> String {
        let after = self.after.as_deref().map(|after| format!("&after={}", segment(after)));
        format!("?limit={}{}", self.limit, after.unwrap_or_default())
    }
}

impl ApiArgs {
    /// Calls the API as the app, and prints what it answers; nothing for an answer without a body.
    pub(crate) fn call(&self, method: Method, path: &str, request: Option<&Value>) -> Result<(), Failure> {
        let answer = self.ask(method, path, request)?;
        if !answer.is_empty() {
            println!("{}", answer.trim_end());
        }
        Ok(())
    }

    /// Calls the API as the app, whose secret is needed; what it answers.
    pub(crate) fn ask(&self, method: Method, path: &str, request: Option<&Value>) -> Result<String, Failure> {
        let Some(secret) = &self.app_secret else {
            return Err(Failure::Usage("--app-secret or LONGWIRE_APP_SECRET is needed".into()));
        };
        on_runtime(async {
            let client =
                reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build().map_err(Failure::failed)?;
            let url = format!("{}{path}", self.url());
            let mut call = client.request(method, url).basic_auth(&self.app_key, Some(secret));
            if let Some(request) = request {
                call = call.json(request);
            }
            let response = call.send().await.map_err(Failure::failed)?;
            let status = response.status();
            let text = response.text().await.map_err(Failure::failed)?;
            match status.is_success() {
                true => Ok(text),
                false => Err(Failure::failed(format!("refused with {status}: {text}"))),
            }
        })
    }
}

/// A text as one segment of a path, or as a value of a query. The first letter of a name is written as its number too: so it is no
/// word of the API's own.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    let write = |(at, byte): (usize, u8)| match at > 0 && plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().enumerate().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn no_name_means_something_in_a_path() {
        assert_eq!(segment("status"), "%73tatus");
        assert_eq!(segment("a/b?c#d e.f"), "%61%2Fb%3Fc%23d%20e%2Ef");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("ü"), "%C3%BC");
    }
}
