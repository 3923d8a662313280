//! The table of trending hashtags.

use std::io::{IsTerminal, Write};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use crossterm::{cursor, queue, terminal};
use parking_lot::Mutex;

use crate::batch::BatchInfo;
use crate::error::Result;
use crate::sql::{RecordBatch, Row, Value, rows_of_batch};
use crate::time::Duration;

/// The longest bar, in characters.
const BAR: usize = 30;

pub(super) struct Table {
    heading: String,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    rows: Vec<Row>,
    tweets: u64,
    written: u64,
    /// Lines on the screen that the next table takes the place of.
    lines: u16,
}

impl Table {
    pub fn new(brokers: &str, interval: Duration) -> Self {
        let heading = format!(
            "Trending hashtags · embedded Kafka at {brokers} · a batch every {interval} · Ctrl-C ends"
        );
        Self { heading, shown: Mutex::default() }
    }

    /// The rows of the window that the running batch has made.
    pub fn set(&self, batches: Vec<RecordBatch>) -> Result<()> {
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(rows_of_batch(batch)?);
        }
        self.shown.lock().rows = rows;
        Ok(())
    }

    /// Shows the table as it is after `batch`, the `number`th: in the place of the one before on a terminal.
    pub fn show(&self, batch: &BatchInfo, number: u64) {
        let mut shown = self.shown.lock();
        shown.tweets += batch.num_records;
        shown.written += batch.output_records.iter().map(|(_, n)| n).sum::<u64>();
        let millis = batch.processing_duration.map_or(0.0, |d| d.as_secs_f64() * 1e3);
        let text = format!(
            "{}\n{}\nbatch {number}: {} tweets in {millis:.0} ms · {} tweets in, {} records out so far\n",
            self.heading,
            table(&shown.rows),
            batch.num_records,
            shown.tweets,
            shown.written,
        );
        let mut out = std::io::stdout().lock();
        if out.is_terminal() && shown.lines > 0 {
            // A terminal that cannot do this shows the tables one below the other.
            let _ = queue!(
                out,
                cursor::MoveToPreviousLine(shown.lines),
                terminal::Clear(terminal::ClearType::FromCursorDown)
            );
        }
        shown.lines = text.lines().count() as u16;
        // Nobody may be looking any more (`| head`); the batches go on.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["", "hashtag", "last ten minutes", ""]);
    let pairs = rows.iter().filter_map(|row| match row.0.as_slice() {
        [Value::Text(tag), Value::Int(count)] => Some((tag, *count)),
        _ => None,
    });
    let most = pairs.clone().map(|(_, n)| n).max().unwrap_or(1).max(1);
    for (rank, (tag, count)) in pairs.enumerate() {
        let bar = "█".repeat((count as f64 / most as f64 * BAR as f64).ceil() as usize);
        table.add_row([(rank + 1).to_string(), format!("#{tag}"), count.to_string(), bar]);
    }
    table
}
