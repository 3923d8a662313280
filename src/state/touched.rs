//! Keys by the time of their last touch, so that what times out is found without looking at the rest.

use rocksdb::WriteBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::delta::{kind, kind_range, prefix, single_key, split_key};
use super::{KeyedState, Shard, StateDb};
use crate::codec::{Key, decode_key, decode_value, encode_values};
use crate::error::Result;
use crate::rdd::{Stop, finished};
use crate::time::Time;

/// A state as it is stored: with the time of its last touch before it.
pub(crate) struct TouchedValue {
    pub bytes: Vec<u8>,
    /// Where the state begins.
    state: usize,
}

impl TouchedValue {
    pub fn encode<S: Serialize>(at: Time, state: &S) -> Result<Self> {
        let (bytes, state) = encode_values(&at, state)?;
        Ok(Self { bytes, state })
    }

    pub fn decode<S: DeserializeOwned>(bytes: &[u8]) -> Result<(Time, S)> {
        decode_value(bytes)
    }

    /// Whether `stored`, touched at `at`, is the same state.
    pub fn is_state_of(&self, at: Time, stored: &[u8]) -> bool {
        let same = || encode_values(&at, &()).map_or(0, |(_, state)| state);
        let (own, other) = (&self.bytes[self.state..], stored.get(same()..));
        other == Some(own)
    }
}

/// The place of a key, whose state is at `stored`, among those that were touched last at `at`.
pub(crate) fn touched_key(at: Time, stored: &[u8]) -> Result<Vec<u8>> {
    let (partition, _, key) = split_key(stored)?;
    let mut bytes = touched_prefix(partition, at);
    bytes.extend_from_slice(key);
    Ok(bytes)
}

fn touched_prefix(partition: usize, at: Time) -> Vec<u8> {
    let mut bytes = prefix(partition, kind::TOUCHED, 32);
    // With the sign turned, the order of the bytes is that of the times.
    bytes.extend_from_slice(&(at.as_millis() as u64 ^ 1 << 63).to_be_bytes());
    bytes
}

impl<K: Key, M: super::keyed::Memory<K>> KeyedState<K, M> {
    /// The oldest last touch of all keys in the store.
    pub fn first_touched(&self, partition: usize) -> Result<Option<Time>> {
        let shard = self.shard(partition);
        // What is older than this is gone; the store would have to step over its remains once more.
        let from = shard.counters.touched_from.map(|from| touched_prefix(partition, from));
        drop(shard);
        let all = kind_range(partition, kind::TOUCHED);
        let opened = self.opened()?;
        let mut first = None;
        let range = from.unwrap_or(all.start)..all.end;
        finished(opened.store.visit(&opened.uid, range, true, &mut |stored, _| {
            let (_, _, timed) = split_key(stored)?;
            if let Some((at, _)) = timed.split_first_chunk() {
                first = Some(Time::from_millis((u64::from_be_bytes(*at) ^ 1 << 63) as i64));
            }
            Err(Stop::Enough)
        }))?;
        Ok(first)
    }

    /// The keys whose last touch is older than `before`, oldest first, each with its place in the store.
    pub fn touched_before(
        &self,
        shard: &Shard<K, M>,
        partition: usize,
        before: Time,
    ) -> Result<Vec<(K, Vec<u8>)>> {
        // What is older than this is gone; the store would have to step over its remains once more.
        let from = shard.counters.touched_from.map(|from| touched_prefix(partition, from));
        let from = from.unwrap_or_else(|| single_key(partition, kind::TOUCHED));
        let until = touched_prefix(partition, before);
        let mut due = Vec::new();
        if shard.counters.keys == 0 || from >= until {
            return Ok(due);
        }
        let opened = self.opened()?;
        finished(opened.store.visit(&opened.uid, from..until, true, &mut |stored, _| {
            let (_, _, timed) = split_key(stored)?;
            let key = timed.get(size_of::<u64>()..).unwrap_or_default();
            let mut place = prefix(partition, kind::ENTRY, 3 + key.len());
            place.extend_from_slice(key);
            due.push((decode_key(key)?, place));
            Ok(())
        }))?;
        Ok(due)
    }
}

impl StateDb {
    /// Has the operator `uid` find its keys by their last touch, or not: without a timeout nobody notes touches, so with a
    /// new one they are all noted here, once.
    pub fn index_touches(&self, uid: &str, partitions: usize, wanted: bool) -> Result<()> {
        /// How many notes are written at once.
        const NOTES: usize = 10_000;
        let complete = single_key(0, kind::TOUCHED_COMPLETE);
        if self.get_state(uid, &complete)?.is_some() == wanted {
            return Ok(());
        }
        let family = self.family(uid)?;
        let mut batch = WriteBatch::default();
        if !wanted {
            batch.delete_cf(&family, complete);
            return self.write("write the state", batch, true);
        }
        for partition in 0..partitions {
            let old = kind_range(partition, kind::TOUCHED);
            batch.delete_range_cf(&family, old.start, old.end);
            finished(self.visit(uid, kind_range(partition, kind::ENTRY), false, &mut |stored, value| {
                let (at, _) = TouchedValue::decode::<serde::de::IgnoredAny>(value)?;
                batch.put_cf(&family, touched_key(at, stored)?, []);
                if batch.len() >= NOTES {
                    self.write("write the state", std::mem::take(&mut batch), false)?;
                }
                Ok(())
            }))?;
        }
        batch.put_cf(&family, complete, []);
        self.write("write the state", batch, true)
    }
}
