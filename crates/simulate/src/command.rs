//! `firn simulate`: arguments, files, output.

use std::path::{Path, PathBuf};

use crate::csv::name;
use crate::{
    Arrival, Graph, GraphError, Order, Outcome, Params, Population, Share, TargetRange, World, csv, svg,
    table,
};

/// How much does derivation sharing save?
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder with .drv files, closed under inputs [default: a synthetic graph]
    #[arg(long, value_name = "DIR")]
    pub graph: Option<PathBuf>,
    /// Size of the synthetic graph
    #[arg(long, value_name = "N", default_value_t = 5000, conflicts_with = "graph",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub synthetic: u32,
    /// Numbers of accounts
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2,10,100,1000,10000",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub accounts: Vec<u32>,
    /// Shares of derivations that are reproducible, in per cent
    #[arg(
        long,
        value_name = "%,…",
        value_delimiter = ',',
        default_value = "80,90,95,99,100"
    )]
    pub reproducible: Vec<Share>,
    /// Shares of accounts that use the service as a remote store, in per cent; the others use it as a remote builder
    #[arg(long, value_name = "%,…", value_delimiter = ',', default_value = "0,100")]
    pub stores: Vec<Share>,
    /// Share of what it needs that a remote builder's account has built itself, in per cent; uploaded where a request needs it
    #[arg(long, value_name = "%", default_value = "10")]
    pub local: Share,
    /// Share of all derivations that a public binary cache has, in per cent
    #[arg(long, value_name = "%", default_value = "0")]
    pub cached: Share,
    /// Top-level derivations per account: a number or a range, log-uniform
    #[arg(long, value_name = "N-M", default_value = "1-20")]
    pub targets: TargetRange,
    /// Exponent of the popularity of top-level derivations; 0 is all alike
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = exponent)]
    pub zipf: f64,
    /// Share of a derivation's inputs that its outputs refer to, in per cent
    #[arg(long, value_name = "%", default_value = "25")]
    pub runtime_share: Share,
    /// Share of reproducible derivations whose output does not change with the bytes of its inputs, in per cent
    #[arg(long, value_name = "%", default_value = "0")]
    pub absorb: Share,
    /// Which content a view takes when it could take several
    #[arg(long, value_enum, default_value_t = Order::Firn)]
    pub order: Order,
    /// In which order accounts come
    #[arg(long, value_enum, default_value_t = Arrival::Random)]
    pub arrival: Arrival,
    /// How often to repeat all with the next seed; the results are summed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Also write all counts here
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Also write a plot here
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=10.0).contains(&s) => Ok(s),
        _ => Err("not a number from 0 to 10".into()),
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Nothing that an account could ask for.
    #[error("the graph has no top-level derivation: all outputs are fixed")]
    NoTargets,
    /// A file that results should go to.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Simulates every point, writes the files that were asked for, and returns the text for the terminal.
///
/// # Errors
/// [`CommandError`]; files may have been written then.
pub fn run(args: &Args) -> Result<String, CommandError> {
    let graph = match &args.graph {
        Some(folder) => Graph::read(folder)?,
        None => Graph::synthetic(args.synthetic, args.seed),
    };
    if graph.targets().is_empty() {
        return Err(CommandError::NoTargets);
    }
    let mut points: Vec<(Params, Outcome)> = Vec::new();
    let kinds = args.stores.iter().flat_map(|stores| {
        let reproducible = args.reproducible.iter();
        reproducible.map(move |reproducible| (*stores, *reproducible))
    });
    for (stores, reproducible) in kinds {
        let point = |accounts, seed| args.params(accounts, stores, reproducible, seed);
        let mut sums = vec![Outcome::default(); args.accounts.len()];
        for seed in (args.seed..).take(args.repeat as usize) {
            let world = World::new(&graph, &point(0, seed));
            for (accounts, sum) in args.accounts.iter().zip(&mut sums) {
                let population = Population::new(&graph, &point(*accounts, seed));
                *sum += crate::run::run(&world, &population, &mut ());
            }
        }
        points.extend(args.accounts.iter().map(|a| point(*a, args.seed)).zip(sums));
    }
    let fixed = graph.drvs().filter(|d| graph.is_fixed(*d)).count();
    let about = format!(
        "{}: {} derivations ({fixed} with fixed outputs), {} edges, {} top-level",
        args.graph_name(),
        graph.len(),
        graph.edges(),
        graph.targets().len()
    );
    let terms = args.terms();
    if let Some(file) = &args.csv {
        write(file, &csv(&points, args.repeat))?;
    }
    if let Some(file) = &args.svg {
        let title = format!("{}, {} derivations. {terms}", args.graph_name(), graph.len());
        write(file, &svg(&title, &points))?;
    }
    Ok(format!("{about}\n{terms}\n\n{}", table(&points)))
}

impl Args {
    fn params(&self, accounts: u32, stores: Share, reproducible: Share, seed: u64) -> Params {
        Params {
            accounts,
            reproducible,
            stores,
            local: self.local,
            cached: self.cached,
            runtime: self.runtime_share,
            absorb: self.absorb,
            order: self.order,
            arrival: self.arrival,
            targets: self.targets,
            zipf: self.zipf,
            seed,
        }
    }

    fn graph_name(&self) -> String {
        let folder = self.graph.as_deref().and_then(Path::file_name);
        folder.map_or_else(|| "synthetic graph".into(), |f| f.display().to_string())
    }

    fn terms(&self) -> String {
        let mut terms = format!(
            "Remote builders have built {} themselves; a public cache has {}",
            self.local, self.cached
        );
        if self.absorb > Share::percent(0.0) {
            terms.push_str(&format!(", absorbed {}", self.absorb));
        }
        if self.order != Order::Firn {
            terms.push_str(&format!(", order {}", name(self.order)));
        }
        if self.repeat > 1 {
            terms.push_str(&format!(", sum of {} seeds", self.repeat));
        }
        terms
    }
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(file, text).map_err(|source| CommandError::Write {
        path: file.display().to_string(),
        source,
    })
}
