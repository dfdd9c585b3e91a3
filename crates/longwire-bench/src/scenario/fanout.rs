use crate::args::FanoutArgs; use crate::error::BenchError; pub(crate) fn run(_: &FanoutArgs) -> Result<(), BenchError> { Ok(()) }
