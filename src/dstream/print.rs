//! `print`

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use super::DStream;
use crate::error::{Error, Result};
use crate::rdd::Data;
use crate::time::Time;

impl<T: Data + Debug> DStream<T> {
    /// Prints the first ten elements of each batch to standard output, in Spark's layout; an empty batch prints its heading.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let test = tidemill::testing::TestContext::new("words")?;
    /// test.input([vec!["tide", "mill"], vec![]]).print();
    /// test.run(2)?;
    /// # Ok(()) }
    /// ```
    ///
    /// ```text
    /// -------------------------------------------
    /// Time: 1000 ms
    /// -------------------------------------------
    /// "tide"
    /// "mill"
    ///
    /// -------------------------------------------
    /// Time: 2000 ms
    /// -------------------------------------------
    /// ```
    #[track_caller]
    pub fn print(&self) {
        self.print_n(10);
    }

    /// Prints the first `n` elements of each batch, and dots if there are more; an empty batch prints its heading.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let test = tidemill::testing::TestContext::new("numbers")?;
    /// // 1, 2, and three dots.
    /// test.input([vec![1, 2, 3]]).print_n(2);
    /// test.run(1)?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn print_n(&self, n: usize) {
        let runner = self.ssc.inner.runner.clone();
        self.output("print", move |rdd, time| {
            let first = rdd.take(n.saturating_add(1))?;
            runner.turn().wait()?;
            let mut out = std::io::stdout().lock();
            out.write_all(layout(time, &first, n)?.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|e| Error::output("cannot print to standard output").with_source(e))
        });
    }
}

/// The heading, the first `n` of `elements`, and dots if there are more.
fn layout(time: Time, elements: &[impl Debug], n: usize) -> Result<String> {
    const LINE: &str = "-------------------------------------------";
    let mut text = format!("{LINE}\nTime: {time}\n{LINE}\n");
    for element in elements.iter().take(n) {
        writeln!(text, "{element:?}")
            .map_err(|e| Error::task("an element cannot be formatted").with_source(e))?;
    }
    if elements.len() > n {
        text.push_str("...\n");
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_first_elements_and_that_there_are_more() {
        let text = layout(Time::from_millis(2_000), &[("a", 1), ("b", 2), ("c", 3)], 2).unwrap();
        let line = "-".repeat(43);
        assert_eq!(text, format!("{line}\nTime: 2000 ms\n{line}\n(\"a\", 1)\n(\"b\", 2)\n...\n\n"));
    }
}
