//! `longwire books`: one call of `GET /v1/books`.

use crate::Failure;
use crate::register::ApiArgs;
use clap::Args;

/// An app's books. The answer is printed as one line of JSON.
#[derive(Args)]
pub(crate) struct BooksArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Asks.
pub(crate) fn run(args: &BooksArgs) -> Result<(), Failure> {
    println!("{}", args.api.get("/v1/books")?.trim_end());
    Ok(())
}
