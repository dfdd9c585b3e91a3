use crate::error::BenchError;
/// x
#[derive(Debug, clap::Args)] pub struct DemoArgs {}
/// x
/// # Errors
/// x
pub fn run_demo(_: DemoArgs) -> Result<(), BenchError> { Ok(()) }
