use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const BUDGET: usize = 64 << 10;

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

fn filled(keys: std::ops::Range<u32>, budget: usize) -> Cache {
    let mut cache = Cache::default();
    keys.for_each(|n| cache.insert(&key(n), &[n as u8; 10], budget));
    cache
}

/// What it has allocated.
fn taken(cache: &Cache) -> usize {
    let segments: usize = cache.segments.iter().map(|segment| segment.0.capacity()).sum();
    assert_eq!(segments, cache.bytes);
    segments + cache.index.bytes()
}

#[test]
fn what_fits_is_found() {
    let mut cache = filled(0..1_000, BUDGET);
    assert!((0..1_000).all(|n| cache.get(&key(n)) == Some(&[n as u8; 10][..])));
    assert!(cache.get(&key(1_000)).is_none());
    let counters = |keys| Counters { keys, ..Counters::default() };
    assert!(cache.is_complete(&counters(1_000)) && !cache.is_complete(&counters(1_001)));
}

#[test]
fn it_stays_within_its_bytes_and_is_well_filled() {
    let cache = filled(0..100_000, BUDGET);
    assert!(taken(&cache) <= BUDGET, "{}", taken(&cache));
    // 20 bytes of segment and 8 of index each, the index at most a third empty, and one eighth of all to spare.
    assert!(cache.index.len() >= BUDGET / 8 * 7 / (20 + 12), "{}", cache.index.len());
}

#[test]
fn what_is_used_stays() {
    let mut cache = filled(0..1_000, BUDGET);
    for n in 1_000..50_000 {
        assert!(cache.get(&key(3)).is_some(), "{n}");
        cache.insert(&key(n), &[0; 10], BUDGET);
    }
    assert!(cache.get(&key(4)).is_none());
}

#[test]
fn what_is_replaced_makes_nothing_else_go() {
    let mut cache = filled(0..500, BUDGET);
    // Of another length each time, so that it has to be written anew.
    for length in (0..2_000).map(|n| n % 40) {
        for n in 0..10 {
            cache.insert(&key(n), &vec![7; length], BUDGET);
        }
    }
    assert_eq!(cache.index.len(), 500);
    assert!((10..500).all(|n| cache.get(&key(n)) == Some(&[n as u8; 10][..])));
}

#[test]
fn what_is_too_large_is_not_kept() {
    let mut cache = filled(0..500, BUDGET);
    cache.insert(&key(0), &vec![0; BUDGET / 8], BUDGET);
    assert!(cache.get(&key(0)).is_none());
    assert_eq!(cache.index.len(), 499);
}

#[test]
fn large_values_make_room_for_each_other() {
    let mut cache = Cache::default();
    let budget = 8 << 20;
    for n in 0..1_000 {
        cache.insert(&key(n), &vec![n as u8; 300_000 + n as usize], budget);
        assert_eq!(cache.get(&key(n)).map(<[u8]>::len), Some(300_000 + n as usize));
        assert!(taken(&cache) <= budget);
    }
    assert!(cache.index.len() >= 12, "{}", cache.index.len());
}

#[test]
fn what_no_segment_is_filled_by_costs_nothing_else_its_place() {
    let (mut cache, budget) = (Cache::default(), 1 << 20);
    for n in 0..2_000 {
        cache.insert(&key(n), &vec![n as u8; 33 << 10], budget);
        if n >= 3 && n % 4 == 3 {
            assert!(cache.get(&key(3)).is_some(), "{n}");
        }
    }
}

#[test]
fn without_room_it_holds_nothing() {
    assert_eq!(filled(0..5, 0).index.len(), 0);
}

proptest! {
    /// Whatever is done with it, it gives no value but the last one, and takes no more than it may.
    #[test]
    fn what_it_has_is_true(
        steps in prop::collection::vec((0u32..300, prop::option::of(0usize..60), any::<bool>()), 0..3_000),
        budget in 2_000usize..20_000,
    ) {
        let (mut cache, mut truth) = (Cache::default(), HashMap::new());
        for (step, (n, length, look)) in steps.into_iter().enumerate() {
            if look {
                if let Some(found) = cache.get(&key(n)) {
                    prop_assert_eq!(Some(&found.to_vec()), truth.get(&n));
                }
            } else if let Some(length) = length {
                let value = vec![step as u8; length];
                cache.insert(&key(n), &value, budget);
                truth.insert(n, value);
            } else {
                cache.remove(&key(n));
                truth.remove(&n);
            }
            prop_assert!(taken(&cache) <= budget + 1_024);
        }
        let found: usize = (0..300).filter(|n| cache.get(&key(*n)).is_some()).count();
        prop_assert_eq!(found, cache.index.len());
        let live: usize = truth.iter().filter(|(n, _)| cache.get(&key(**n)).is_some()).map(|(_, v)| size(&key(0), v)).sum();
        prop_assert_eq!(live, cache.live);
    }
}
