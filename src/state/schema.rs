//! What a stateful operator keeps, as the checkpoint tells it without the program.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Partitions are numbered by two bytes in the store.
pub(super) const MOST_PARTITIONS: usize = 1 << 16;

/// What an operator of the program keeps under its uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperatorSchema {
    pub operator: String,
    pub key_type: String,
    pub value_type: String,
    /// Over how many partitions it spreads its keys.
    pub partitions: usize,
    /// Whether the value type says all about the values: if it changes, the old ones cannot be read. The name of a
    /// Rust type may change with its values staying readable.
    pub exact: bool,
}

/// What the checkpoint knows of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub operator: String,
    pub key_type: String,
    /// Oldest first: programs that were changed wrote values of each of these types.
    pub value_types: Vec<String>,
    pub partitions: usize,
    /// The column family that holds it, which keeps its name when the operator gets another uid.
    pub family: String,
}

impl OperatorSchema {
    pub fn check(&self, uid: &str) -> Result<()> {
        if (1..=MOST_PARTITIONS).contains(&self.partitions) {
            return Ok(());
        }
        Err(Error::config(format!(
            "operator `{uid}` spreads its keys over {} partitions: expected 1 to 65,536",
            self.partitions
        )))
    }

    pub fn registered(self, family: String) -> Registered {
        let Self { operator, key_type, value_type, partitions, .. } = self;
        Registered { operator, key_type, value_types: vec![value_type], partitions, family }
    }
}

impl Registered {
    /// Whether this has to change for `schema`, which the program has under `uid`.
    ///
    /// # Errors
    /// If the state cannot be that operator's.
    pub fn admits(&mut self, uid: &str, schema: &OperatorSchema, path: &Path) -> Result<bool> {
        let path = path.display();
        let no_value_of_this = self.value_types.last() != Some(&schema.value_type);
        if self.operator != schema.operator
            || self.key_type != schema.key_type
            || (schema.exact && no_value_of_this)
        {
            let advice = format!(
                "have that state dropped by `remove_state(\"{uid}\")`, or `tidemill state drop {uid}`, and give the changed \
                 operator another uid"
            );
            return Err(Error::checkpoint(format!(
                "operator `{uid}` is a {} from {} to {}, but the checkpoint {path} holds a {} from {} to {} under that uid: \
                 {advice}",
                schema.operator,
                schema.key_type,
                schema.value_type,
                self.operator,
                self.key_type,
                self.written_as()
            )));
        }
        if self.partitions != schema.partitions {
            return Err(Error::checkpoint(format!(
                "operator `{uid}` spreads its keys over {} partitions, but the checkpoint {path} holds its state in {}: set \
                 its number of partitions to {} again, or give it another uid",
                schema.partitions, self.partitions, self.partitions
            )));
        }
        if no_value_of_this {
            self.value_types.retain(|written| *written != schema.value_type);
            self.value_types.push(schema.value_type.clone());
        }
        Ok(no_value_of_this)
    }

    /// Whether its partitions hold a record of how much they hold.
    pub fn has_counters(&self) -> bool {
        matches!(self.operator.as_str(), "map_with_state" | "update_state_by_key")
    }

    /// Whether what it keeps is spread by key.
    pub fn is_keyed(&self) -> bool {
        self.operator != "window"
    }

    /// The types of its values, oldest first.
    pub fn written_as(&self) -> String {
        self.value_types.join(", then ")
    }
}
