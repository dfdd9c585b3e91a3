use crate::args::IdleArgs; use crate::error::BenchError; pub(crate) fn run(_: &IdleArgs) -> Result<(), BenchError> { Ok(()) }
