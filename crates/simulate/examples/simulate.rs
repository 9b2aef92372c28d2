//! The simulator alone, without the rest of Firn: `cargo run --release -p firn-simulate --example simulate -- --help`.

use clap::Parser;
use firn_simulate::command::{Args, run};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", run(&Options::parse().args)?);
    Ok(())
}
