use super::*;

fn offsets(of: &[(&str, i64)]) -> Offsets {
    of.iter().map(|(topic, offset)| (((*topic).into(), 0), *offset)).collect()
}

fn caught_up(next: &[(&str, i64)], backlog: &[(&str, i64)], on: &[(&str, i64)]) -> bool {
    let mut progress = Progress { next: offsets(next), backlog: offsets(backlog), ..Progress::default() };
    progress.go_on_at(offsets(on));
    progress.is_caught_up()
}

#[test]
fn a_backlog_is_what_is_read_on_from_where_it_stood() {
    assert!(!caught_up(&[("a", 2), ("b", 5)], &[("a", 9), ("b", 5)], &[("a", 8), ("b", 5)]));
    assert!(caught_up(&[("a", 2), ("b", 5)], &[("a", 9), ("b", 5)], &[("a", 9), ("b", 5)]));
    // A topic that is gone is not waited for, nor one that begins anew and may never get to where it ended.
    assert!(caught_up(&[("a", 5), ("b", 7)], &[("a", 5), ("b", 9)], &[("a", 5)]));
    assert!(caught_up(&[("a", 5)], &[("a", 5)], &[("a", 0)]));
    // What is new was no backlog.
    assert!(caught_up(&[("a", 5)], &[("a", 5)], &[("a", 5), ("c", 0)]));
}
