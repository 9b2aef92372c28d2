//! `trust` and `readers`: the two halves of one account believing another.

use clap::{Subcommand, ValueEnum};
use firn_service::ports::{Ports, Relation};
use firn_service::{Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

pub(super) const BOTH_SIDES: &str = "\
It takes two: B believes what A has (in B's shell: trust add A) only as far as A lets B read it (in A's shell: readers add B). \
One half alone does nothing.";

/// How much of another account's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Extent {
    /// What Firn built for the account
    Builds,
    /// That, and what the account uploaded
    Uploads,
}

impl From<Extent> for firn_core::Trust {
    fn from(extent: Extent) -> Self {
        match extent {
            Extent::Builds => Self::Builds,
            Extent::Uploads => Self::Uploads,
        }
    }
}

/// `trust …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum Trust {
    /// Whom this account trusts, how far, and what they let it read
    List,
    /// Believe what another account has
    #[command(after_help = BOTH_SIDES)]
    Add {
        /// Whom
        #[arg(value_name = "ACCOUNT")]
        other: String,
        /// How far
        extent: Extent,
    },
    /// Believe it no more
    Remove {
        /// Whom
        #[arg(value_name = "ACCOUNT")]
        other: String,
    },
}

impl Trust {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let relations = desk.relations().await?;
                let trusted = relations.iter().filter(|relation| relation.trusts.is_some());
                let row = |relation: &Relation| {
                    json!({
                        "account": relation.name.as_str(),
                        "trusts": shown(relation.trusts),
                        "lets_you_read": shown(relation.may_read),
                    })
                };
                Ok(Reply::table(
                    trusted.map(row).collect(),
                    &["account", "trusts", "lets_you_read"],
                    "no account is trusted",
                ))
            }
            Self::Add { other, extent } => {
                desk.trust(&other, Some(extent.into())).await?;
                let may_read = relation(desk, &other).await?.and_then(|found| found.may_read);
                let reply = Reply::done(
                    json!({ "account": other, "trusts": shown(Some(extent.into())), "lets_you_read": shown(may_read) }),
                    &format!("account '{other}' is trusted: {}", meaning(extent)),
                );
                if may_read >= Some(extent.into()) {
                    return Ok(reply);
                }
                let me = &desk.account().name;
                let so_far = match may_read {
                    None => "nothing yet",
                    Some(_) => "only its builds",
                };
                Ok(reply.hint(&format!(
                    "But '{other}' lets you read {so_far}. It must say, in its own shell: readers add {me} {}",
                    firn_core::Trust::from(extent).name()
                )))
            }
            Self::Remove { other } => {
                desk.trust(&other, None).await?;
                Ok(Reply::done(
                    json!({ "removed": other }),
                    &format!("account '{other}' is not trusted any more"),
                ))
            }
        }
    }
}

/// `readers …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum Readers {
    /// Who may read what this account has, how much, and whether they trust it
    List,
    /// Let another account read
    #[command(after_help = BOTH_SIDES)]
    Add {
        /// Whom
        #[arg(value_name = "ACCOUNT")]
        other: String,
        /// How much
        extent: Extent,
    },
    /// Let it read no more
    Remove {
        /// Whom
        #[arg(value_name = "ACCOUNT")]
        other: String,
    },
}

impl Readers {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        match self {
            Self::List => {
                let relations = desk.relations().await?;
                let concerned = relations
                    .iter()
                    .filter(|relation| relation.lets_read.is_some() || relation.trusted_by.is_some());
                let row = |relation: &Relation| {
                    json!({
                        "account": relation.name.as_str(),
                        "may_read": shown(relation.lets_read),
                        "trusts_you": shown(relation.trusted_by),
                    })
                };
                Ok(Reply::table(
                    concerned.map(row).collect(),
                    &["account", "may_read", "trusts_you"],
                    "nobody reads or trusts this account",
                ))
            }
            Self::Add { other, extent } => {
                desk.let_read(&other, Some(extent.into())).await?;
                let trusts_you = relation(desk, &other).await?.and_then(|found| found.trusted_by);
                let reply = Reply::done(
                    json!({ "account": other, "may_read": shown(Some(extent.into())), "trusts_you": shown(trusts_you) }),
                    &format!("account '{other}' may read {}", meaning(extent)),
                );
                if trusts_you.is_some() {
                    return Ok(reply);
                }
                let me = &desk.account().name;
                Ok(reply.hint(&format!(
                    "It gets it once it trusts you. It must say, in its own shell: trust add {me} {}",
                    firn_core::Trust::from(extent).name()
                )))
            }
            Self::Remove { other } => {
                desk.let_read(&other, None).await?;
                Ok(Reply::done(
                    json!({ "removed": other }),
                    &format!("account '{other}' may not read any more"),
                ))
            }
        }
    }
}

async fn relation<P: Ports>(desk: &Desk<P>, other: &str) -> Result<Option<Relation>, StoreError> {
    let relations = desk.relations().await?;
    Ok(relations
        .into_iter()
        .find(|relation| relation.name.as_str() == other))
}

fn shown(trust: Option<firn_core::Trust>) -> Value {
    trust.map_or(Value::Null, |trust| trust.name().into())
}

fn meaning(extent: Extent) -> &'static str {
    match extent {
        Extent::Builds => "what Firn built for it",
        Extent::Uploads => "what Firn built for it, and what it uploaded",
    }
}
