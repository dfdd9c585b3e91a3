use crate::args::UnicastArgs; use crate::error::BenchError; pub(crate) fn run(_: &UnicastArgs) -> Result<(), BenchError> { Ok(()) }
