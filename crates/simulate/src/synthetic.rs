//! Graphs for want of real ones.

use crate::Graph;
use crate::graph::Node;
use crate::hash::{About, of, unit};

impl Graph {
    /// A graph of that many derivations, at least one, somewhat like a package collection: half of them sources with few inputs; a
    /// narrow toolchain at the bottom that nearly everything uses; the others built from 1 to 12 earlier ones.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    pub fn synthetic(derivations: u32, seed: u64) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut ordinary: Vec<usize> = Vec::new();
        for n in 0..u64::from(derivations.max(1)) {
            let draw = |about: u64| unit(of(seed, About::Graph, n, about));
            let fixed = n > 2 && n + 1 < u64::from(derivations) && draw(0) < 0.5;
            let count = if fixed {
                1.0 + 2.0 * draw(1)
            } else {
                1.0 + 12.0 * draw(1).powi(2)
            } as u64;
            let toolchain = (nodes.len() as f64).sqrt().ceil();
            let mut inputs: Vec<usize> = (0..count)
                .filter_map(|i| {
                    let bottom = fixed || draw(2 + 2 * i) < 0.4;
                    let range = if bottom {
                        toolchain.min(ordinary.len() as f64)
                    } else {
                        nodes.len() as f64
                    };
                    let pick = (range * draw(3 + 2 * i)) as usize;
                    if bottom {
                        ordinary.get(pick).copied()
                    } else {
                        (pick < nodes.len()).then_some(pick)
                    }
                })
                .collect();
            inputs.sort_unstable();
            inputs.dedup();
            if !fixed {
                ordinary.push(nodes.len());
            }
            let name = if fixed {
                format!("source-{n}")
            } else {
                format!("package-{n}")
            };
            nodes.push(Node { name, fixed, inputs });
        }
        // Inputs come before what uses them: there is no cycle, and one node can always be numbered.
        Self::new(&nodes).unwrap_or_else(|e| unreachable!("{e}"))
    }
}
