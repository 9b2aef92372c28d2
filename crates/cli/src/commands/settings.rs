//! `settings`

use clap::{Args, Subcommand};
use firn_service::ports::Ports;
use firn_service::{Desk, SettingRow, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// `settings …`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Settings {
    /// Of one SSH key of the account, as `ssh-keys list` shows it: overrides the account's settings in sessions with that key
    #[arg(long, global = true, value_name = "FINGERPRINT")]
    key: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
enum Action {
    /// Every setting, its value, and who has set it [the default]
    List,
    /// One setting
    Get {
        /// Which
        name: String,
    },
    /// Set it for the account, or with --key for one of its SSH keys
    Set {
        /// Which
        name: String,
        /// A value; lists have blanks or commas between their entries
        #[arg(required = true)]
        value: Vec<String>,
    },
    /// Let the next level decide again
    Unset {
        /// Which
        name: String,
    },
}

impl Settings {
    /// Whether it sets or unsets that one.
    pub(super) fn changes(&self, setting: &str) -> bool {
        matches!(&self.action, Some(Action::Set { name, .. } | Action::Unset { name }) if name == setting)
    }

    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let key = self.key.as_deref();
        match self.action.unwrap_or(Action::List) {
            Action::List => {
                let rows = desk.settings(key).await?.iter().map(row).collect();
                Ok(Reply::table(rows, &["setting", "value", "set_by", "about"], ""))
            }
            Action::Get { name } => {
                let row = found(desk, key, &name).await?;
                Ok(Reply::told(self::row(&row), &row.value))
            }
            Action::Set { name, value } => {
                desk.set(key, &name, Some(&value.join(" "))).await?;
                let row = found(desk, key, &name).await?;
                let reply = Reply::done(self::row(&row), &format!("{name} = {}", row.value));
                Ok(match name.as_str() {
                    "allow-shell" if row.value == "false" => reply.hint(CLOSED),
                    _ => reply,
                })
            }
            Action::Unset { name } => {
                desk.set(key, &name, None).await?;
                let row = found(desk, key, &name).await?;
                let sentence = format!("{name} = {}, set by the {}", row.value, row.level.name());
                Ok(Reply::done(self::row(&row), &sentence))
            }
        }
    }
}

const CLOSED: &str =
    "New shells are closed now to these keys. A key that it is open to can open it again, or the operator.";

async fn found<P: Ports>(desk: &Desk<P>, key: Option<&str>, name: &str) -> Result<SettingRow, StoreError> {
    let name = firn_core::definition(name)
        .map_err(|e| StoreError::new(e.to_string()))?
        .name;
    let rows = desk.settings(key).await?;
    rows.into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| StoreError::new(format!("the setting '{name}' has no value")))
}

fn row(row: &SettingRow) -> Value {
    json!({
        "setting": row.name,
        "value": row.value,
        "set_by": row.level.name(),
        "about": row.about,
    })
}
