//! How cost grows, everything else equal: with the partitions of a topic, with threads, with the keys of a state, and with the
//! length of a window. Each table has what was measured, and its ratio to the table's first row; every result is checked.
//!
//! `BENCH_ONLY` chooses tables (`partitions,threads,keys,windows`; all unless set). `BENCH_RECORDS` sets the records of the word count
//! (2,000,000), `BENCH_ROUNDS` how often each of its rows is run (3, by turns; the median counts), `BENCH_KEYS` the largest number of
//! keys (10,000,000), `BENCH_PANES` the slides of the long window (14,400: ten days by a minute).
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

mod keys;
#[allow(dead_code, reason = "another benchmark, whose state is used")]
#[path = "../state.rs"]
mod state;
#[path = "../../integration-tests/support/mod.rs"]
mod support;
mod windows;
mod words;

use state::common;

fn main() {
    if let Some(arguments) = common::child_arguments() {
        return words::run(&arguments);
    }
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let is_wanted = |table: &str| only.is_empty() || only.split(',').any(|one| one == table);
    if is_wanted("partitions") || is_wanted("threads") {
        words::measure(is_wanted("partitions"), is_wanted("threads"));
    }
    if is_wanted("keys") {
        keys::measure();
    }
    if is_wanted("windows") {
        windows::measure();
    }
}

/// Prints a table: what each row is, and its figures, each with its ratio to the first row's.
fn print(title: &str, figures: &[&str], rows: &[(String, Vec<f64>)]) {
    println!("\n{title}");
    print!("{:<34}", "");
    figures.iter().for_each(|figure| print!("{figure:>27}"));
    println!();
    for (name, values) in rows {
        print!("{name:<34}");
        for (value, first) in values.iter().zip(&rows[0].1) {
            let decimals = if *value < 100.0 { 3 } else { 0 };
            print!("{:>27}", format!("{value:.decimals$} ({:.2})", value / first));
        }
        println!();
    }
}
