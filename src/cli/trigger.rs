//! `horai trigger`: what triggers of other schedulers do. Needs no cluster.

use std::io::{self, Write};

use clap::Subcommand;

use super::failure::Failure;
use crate::offline::{answer_lines, trigger};

#[derive(Debug, Subcommand)]
pub(super) enum TriggerCommand {
    /// What Quartz's triggers do: their fires, and what a misfire leaves
    Simulate {
        /// Answer lines of JSON: {"kind","tz","start","end","interval_ms",…}
        #[arg(long, required = true)]
        stdin: bool,
    },
}

pub(super) fn run(verb: &TriggerCommand, out: &mut impl Write) -> Result<(), Failure> {
    match verb {
        TriggerCommand::Simulate { .. } => {
            Ok(answer_lines(io::stdin().lock(), out, trigger::answer)?)
        }
    }
}
