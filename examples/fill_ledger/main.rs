//! Makes a ledger with as many calls as are wanted, to see how pages and queries do with it:
//!
//!     cargo run --release --example fill_ledger -- --dir DIR --calls 1000000
//!
//! Crews of some 40 agents work on thousands of runs with eight models; they call each other, some of
//! them in circles, and some calls fail. It goes through the ledger's own writer, as fast as that
//! takes it in. The same seed makes the same calls, up to the time they end at.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use open_aiops::clock::Clock;

mod made;

#[derive(Parser)]
struct Args {
    /// Where the ledger is made; must not hold one yet
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// How far back the first of them lies
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(2..=3650))]
    days: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to complain to when this fails.
            let _ = writeln!(io::stderr(), "fill_ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    if args.dir.join("log").exists() {
        let dir = args.dir.display();
        return Err(format!("{dir} holds a ledger already: name another directory").into());
    }
    std::fs::create_dir_all(&args.dir)?;
    let plan = made::Plan {
        calls: args.calls,
        days: args.days,
        seed: args.seed,
        until: Clock::System.now(),
    };
    let start = Instant::now();
    let dropped = made::fill(&args.dir, plan, |made| {
        let secs = start.elapsed().as_secs_f32();
        let _ = writeln!(io::stderr(), "{made} calls after {secs:.0} s");
    })?;
    if dropped > 0 {
        return Err(format!("{dropped} records did not fit").into());
    }
    let secs = start.elapsed().as_secs_f32();
    writeln!(io::stdout(), "{} calls in {secs:.0} s", args.calls)?;
    Ok(())
}
