//! The test harness itself: that the broker is real, keeps its data, and does what it is told.

use crate::support::{Broker, GroupLag, Record};

#[test]
fn what_is_produced_is_read_back() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("records", 2);

    let stamped = Record::from("a").partition(1).timestamp(1_000).header("h", "1");
    broker.produce(&topic, [stamped, Record::tombstone("k").partition(0)]);
    broker.kcat(&["-P", "-t", &topic, "-p", "1"], "b\nc\n");

    let rows = broker.read(&topic);
    let places: Vec<_> = rows.iter().map(|row| (row.partition, row.offset, row.text())).collect();
    let expected = [(0, 0, ""), (1, 0, "a"), (1, 1, "b"), (1, 2, "c")];
    assert_eq!(places, expected.map(|(partition, offset, text)| (partition, offset, text.to_owned())));
    assert_eq!((rows[0].key_text(), &rows[0].value), ("k".to_owned(), &None));
    assert_eq!((rows[1].timestamp, &rows[1].headers), (1_000, &vec![("h".to_owned(), b"1".to_vec())]));
}

#[test]
fn the_stock_tools_see_topics_and_groups() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("lines", 1);
    let group = format!("{topic}-group");
    let server = ["--bootstrap-server", broker.bootstrap()];

    let topics = broker.tool("org.apache.kafka.tools.TopicCommand", &[&server[..], &["--list"]].concat());
    assert!(topics.lines().any(|line| line == topic), "{topics}");
    assert_eq!(broker.group_lag(&group), []);

    broker.produce(&topic, ["a", "b", "c"]);
    broker.kcat(&["-G", &group, "-e", "-X", "auto.offset.reset=earliest", &topic], "");
    let producer = [&server[..], &["--topic", &topic]].concat();
    broker.tool_with_input("org.apache.kafka.tools.ConsoleProducer", &producer, "d\n");

    let [current_offset, log_end_offset, lag] = [3, 4, 1].map(Some);
    assert_eq!(
        broker.group_lag(&group),
        [GroupLag { topic: topic.clone(), partition: 0, current_offset, log_end_offset, lag }]
    );
    assert_eq!(broker.committed(&group, &topic), [(0, 3)].into());
}

#[test]
fn data_outlives_a_restart_a_kill_and_a_pause() {
    let mut broker = Broker::start();
    let values = |broker: &Broker| broker.read("kept").iter().map(|row| row.text()).collect::<Vec<_>>();
    broker.create_topic("kept", 1);
    broker.produce("kept", ["first"]);

    broker.restart();
    broker.produce("kept", ["second"]);
    assert_eq!(values(&broker), ["first", "second"]);

    broker.kill();
    broker.restart();
    assert_eq!(values(&broker), ["first", "second"]);

    broker.pause();
    broker.resume();
    broker.produce("kept", ["third"]);
    assert_eq!(values(&broker), ["first", "second", "third"]);
}
