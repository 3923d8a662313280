//! Whether a store is what its operators expect: every byte is read, and every entry and record of bookkeeping decoded.

use super::StateDb;
use super::delta::{kind, prefix, single_key, split_key};
use super::entry::StateEntry;
use super::keyed::Counters;
use super::schema::Registered;
use super::touched::{TouchedValue, touched_key};
use crate::codec::decode_value;
use crate::error::{Error, Result};
use crate::time::Time;

/// How many problems of one operator are told.
const MOST_PROBLEMS: usize = 20;

/// What was read, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    pub records: u64,
    pub bytes: u64,
    pub problems: Vec<String>,
    /// Records that do not bear each other out. Wrong, too, unless a batch is prepared, which may be applied in part.
    pub disagreements: Vec<String>,
}

/// What was found in one partition of an operator.
#[derive(Default, Clone)]
struct Seen {
    counters: Counters,
    noted: Option<Counters>,
    touches: u64,
    /// Those of them that no entry bears out.
    unborne: u64,
}

impl StateDb {
    /// Reads all of it, which checks the checksum of every block, and decodes all that is state.
    pub fn verify(&self) -> Verified {
        let mut verified = Verified::default();
        for (uid, schema) in self.operators() {
            let before = verified.problems.len();
            if let Err(error) = self.verify_operator(&uid, &schema, &mut verified) {
                verified.problems.push(format!("operator `{uid}`: {error}"));
            }
            let more = (verified.problems.len() - before).saturating_sub(MOST_PROBLEMS);
            if more > 0 {
                verified.problems.truncate(before + MOST_PROBLEMS);
                verified.problems.push(format!("operator `{uid}`: {more} more problems"));
            }
        }
        let others = self.other_families().unwrap_or_else(|error| {
            verified.problems.push(error.to_string());
            Vec::new()
        });
        for name in others {
            let read = self.scan_family(&name, |key, value| {
                verified.records += 1;
                verified.bytes += (key.len() + value.len()) as u64;
                Ok(())
            });
            if let Err(error) = read {
                verified.problems.push(error.to_string());
            }
        }
        verified
    }

    fn verify_operator(&self, uid: &str, schema: &Registered, verified: &mut Verified) -> Result<()> {
        let mut seen = vec![Seen::default(); schema.partitions];
        let is_complete = self.get_state(uid, &single_key(0, kind::TOUCHED_COMPLETE))?.is_some();
        self.scan(uid, |stored, value| {
            verified.records += 1;
            verified.bytes += (stored.len() + value.len()) as u64;
            if let Err(error) = self.verify_record(uid, schema, &mut seen, (stored, value)) {
                verified.problems.push(format!("operator `{uid}`: {error}"));
            }
            Ok(())
        })?;
        for (partition, Seen { counters, noted, touches, unborne }) in seen.iter().enumerate() {
            if schema.has_counters() {
                let noted = noted.unwrap_or_default();
                if (noted.keys, noted.bytes) != (counters.keys, counters.bytes) {
                    verified.disagreements.push(format!(
                        "operator `{uid}`, partition {partition}: {} keys of {} bytes were found, but {} of {} bytes are \
                         noted",
                        counters.keys, counters.bytes, noted.keys, noted.bytes
                    ));
                }
            }
            if is_complete && (*touches, *unborne) != (counters.keys, 0) {
                verified.disagreements.push(format!(
                    "operator `{uid}`, partition {partition}: {} keys, but {touches} are noted by their last touch, {unborne} of \
                     them wrongly",
                    counters.keys
                ));
            }
        }
        Ok(())
    }

    fn verify_record(
        &self,
        uid: &str,
        schema: &Registered,
        seen: &mut [Seen],
        (stored, value): (&[u8], &[u8]),
    ) -> Result<()> {
        let (partition, kind, key) = split_key(stored)?;
        let Some(seen) = seen.get_mut(partition) else {
            return Err(Error::damaged(format!(
                "a record is in partition {partition}, but there are {} partitions",
                schema.partitions
            )));
        };
        let within = |e: Error| e.within(format!("partition {partition}"));
        match kind {
            kind::ENTRY | kind::TOTAL => {
                StateEntry::decode(&schema.operator, stored, value)?;
                if kind == kind::ENTRY {
                    seen.counters.keys += 1;
                    seen.counters.bytes += (stored.len() + value.len()) as u64;
                }
            }
            kind::COUNTERS => seen.noted = Some(decode_value(value).map_err(within)?),
            kind::EMITTED => drop(decode_value::<Time>(value).map_err(within)?),
            kind::PARTITIONS => drop(decode_value::<usize>(value).map_err(within)?),
            kind::TOUCHED => {
                seen.touches += 1;
                let mut entry = prefix(partition, kind::ENTRY, 3 + key.len());
                entry.extend_from_slice(key.get(size_of::<u64>()..).unwrap_or_default());
                let found = self.get_state(uid, &entry)?;
                let at =
                    found.map(|value| TouchedValue::decode::<serde::de::IgnoredAny>(&value)).transpose()?;
                let is_borne_out = match at {
                    Some((at, _)) => touched_key(at, &entry)? == stored,
                    None => false,
                };
                seen.unborne += u64::from(!is_borne_out);
            }
            kind::INITIAL_TAKEN | kind::TOUCHED_COMPLETE => {}
            other => return Err(within(Error::damaged(format!("a record of the unknown kind {other}")))),
        }
        Ok(())
    }
}
