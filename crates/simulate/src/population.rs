//! The accounts and what they ask for.

use crate::hash::{About, of, unit};
use crate::{Arrival, Drv, Graph, Params};

/// Which top-level derivations each account asks for, in order of arrival.
#[derive(Clone, Debug)]
pub struct Population {
    accounts: Vec<Vec<Drv>>,
}

impl Population {
    /// Draws the accounts. The first ones of a larger population are those of a smaller one, before arrival sorts them.
    #[must_use]
    pub fn new(graph: &Graph, params: &Params) -> Self {
        let mut by_popularity: Vec<Drv> = graph.targets().to_vec();
        by_popularity.sort_unstable_by_key(|drv| of(params.seed, About::Popularity, u64::from(*drv), 0));
        let mut total = 0.0;
        let weights: Vec<f64> = (1..=by_popularity.len() as u32)
            .map(|rank| {
                total += f64::from(rank).powf(-params.zipf);
                total
            })
            .collect();
        let mut accounts: Vec<Vec<Drv>> = (0..u64::from(params.accounts))
            .map(|account| {
                let draw = |n: u64| unit(of(params.seed, About::Targets, account, n));
                let wanted = number(params, draw(0)).min(by_popularity.len());
                let mut targets: Vec<Drv> = Vec::new();
                // A target that was drawn before is drawn again; with few targets or a steep popularity that may not end.
                for n in 1..=20 * wanted as u64 {
                    let place = weights.partition_point(|w| *w <= draw(n) * total);
                    if let Some(target) = by_popularity.get(place)
                        && targets.len() < wanted
                        && !targets.contains(target)
                    {
                        targets.push(*target);
                    }
                }
                targets
            })
            .collect();
        match params.arrival {
            Arrival::Random => {}
            Arrival::LargestFirst => accounts.sort_by_key(|t| std::cmp::Reverse(t.len())),
            Arrival::SmallestFirst => accounts.sort_by_key(Vec::len),
        }
        Self { accounts }
    }

    /// From lists of top-level derivations, an account each.
    #[must_use]
    pub fn of(accounts: Vec<Vec<Drv>>) -> Self {
        Self { accounts }
    }

    /// What each account asks for.
    pub fn accounts(&self) -> impl Iterator<Item = &[Drv]> {
        self.accounts.iter().map(Vec::as_slice)
    }
}

/// Log-uniform over the range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between two u32"
)]
fn number(params: &Params, draw: f64) -> usize {
    let (min, max) = (f64::from(params.targets.min), f64::from(params.targets.max) + 1.0);
    (min * (max / min).powf(draw)) as usize
}
