//! Joining a stream with another, and both with a static set.
//!
//! Clicks on advertisements are joined with the impressions of the last minute, and what comes out with the names of the
//! campaigns.
//!
//! Reads impressions and clicks, each the number of an advertisement, from two sockets:
//!
//! ```console
//! $ nc -lk 9998    # impressions: a line `7` says that advertisement 7 was shown
//! $ nc -lk 9999    # clicks
//! $ cargo run --example joins -- localhost 9998 9999
//! ```

use tidemill::{DStream, Duration, Rdd, Result, StreamingContext};

/// How often each advertisement was clicked in a batch, and how often it had been shown in the last `window`. One that was
/// not shown is left out: nobody can have clicked on it.
fn clicks_and_impressions(
    clicks: &DStream<u32>,
    impressions: &DStream<u32>,
    window: Duration,
) -> Result<DStream<(u32, (u64, u64))>> {
    let slide = clicks.slide_duration();
    let clicked = clicks.map(|ad| (ad, 1)).reduce_by_key(|a, b| a + b);
    let shown = impressions.count_by_value_and_window(window, slide)?;
    clicked.join(&shown)
}

/// The same with the campaign's name, where the static set has one.
fn with_names<V: tidemill::Data>(
    stream: &DStream<(u32, V)>,
    names: Rdd<(u32, String)>,
) -> DStream<(u32, (V, Option<String>))> {
    stream.transform(move |batch| batch.left_outer_join(&names))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let mut port = |default| arguments.next().and_then(|port| port.parse().ok()).unwrap_or(default);
    let (impressions, clicks) = (port(9998), port(9999));

    let ssc = StreamingContext::builder("joins").batch_interval(Duration::seconds(5)).build()?;
    // What is no number stands for no advertisement.
    let ads = |port| ssc.socket_text_stream(&host, port).flat_map(|line| line.trim().parse::<u32>().ok());
    let joined = clicks_and_impressions(&ads(clicks), &ads(impressions), Duration::seconds(60))?;
    let names = [(1, "spring sale"), (7, "free tea")].map(|(ad, name)| (ad, name.to_owned()));
    with_names(&joined, ssc.parallelize(names, 1)).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::RddQueue;
    use tidemill::testing::TestContext;

    use super::*;

    #[test]
    fn clicks_find_the_impressions_of_the_window() {
        let test = TestContext::new("test").unwrap();
        let (impressions, clicks) = (RddQueue::new(), RddQueue::new());
        for (shown, clicked) in [(vec![1, 7, 7], vec![7]), (vec![1], vec![1, 7, 7, 9]), (vec![], vec![7, 1])]
        {
            impressions.push(shown);
            clicks.push(clicked);
        }
        let (impressions, clicks) = (test.ssc.queue_stream(&impressions), test.ssc.queue_stream(&clicks));
        let joined = clicks_and_impressions(&clicks, &impressions, Duration::seconds(2)).unwrap();
        let named = with_names(&joined, test.ssc.parallelize([(7, "tea".to_owned())], 1));
        let output = test.collect(&named);
        test.run(4).unwrap();

        let batches: Vec<_> = output
            .take()
            .into_iter()
            .map(|(_, mut batch)| {
                batch.sort();
                batch
            })
            .collect();
        let tea = Some("tea".to_owned());
        assert_eq!(
            batches,
            [
                vec![(7, ((1, 2), tea.clone()))],
                // 9 was never shown.
                vec![(1, ((1, 2), None)), (7, ((2, 2), tea))],
                // The impressions of 7 have left the window.
                vec![(1, ((1, 1), None))],
                vec![],
            ]
        );
    }
}
