//! Socket streams against a server of the test's own.

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};

use tidemill::testing::{Collected, TestContext};
use tidemill::{DStream, Data};

use super::receivers::Events;
use super::{at, builder, s};

/// A server on a free port.
fn server() -> (TcpListener, u16) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

/// Sends `bytes` to whoever connects next, and closes the connection.
fn send(server: &TcpListener, bytes: &[u8]) {
    accept(server).write_all(bytes).unwrap();
}

fn accept(server: &TcpListener) -> TcpStream {
    server.accept().unwrap().0
}

/// Sends each of `connections` over a connection of its own, and gives what a batch after each has.
fn batches<T: Data>(
    connections: &[&[u8]],
    stream: impl FnOnce(&TestContext, u16) -> DStream<T>,
) -> (Vec<Vec<T>>, Vec<String>) {
    let (server, port) = server();
    let test = TestContext::new("test").unwrap();
    let output = test.collect(&stream(&test, port));
    let events = Events::of(&test.ssc);
    test.ssc.start().unwrap();
    for (i, bytes) in connections.iter().enumerate() {
        send(&server, bytes);
        // Started, broken, stopped: then all has been stored.
        events.wait_for(3 * (i + 1));
        test.step().unwrap();
        test.step().unwrap();
    }
    // It connects once more.
    drop(accept(&server));
    test.ssc.stop(true).unwrap();
    let errors = events.wait_for(0).into_iter().filter(|e| e.contains("error")).take(connections.len());
    (non_empty(&output), errors.map(|e| e.replace(&port.to_string(), "PORT")).collect())
}

fn non_empty<T: Data>(output: &Collected<T>) -> Vec<Vec<T>> {
    output.take().into_iter().map(|(_, elements)| elements).filter(|e| !e.is_empty()).collect()
}

#[test]
fn lines_come_and_a_connection_that_ended_is_made_again() {
    let sent: [&[u8]; 2] = [b"a b\r\nc\n\n\xff\xc3\xa9\nlast", b"again\n"];
    let (out, errors) = batches(&sent, |test, port| test.ssc.socket_text_stream("127.0.0.1", port));
    assert_eq!(out, [vec!["a b", "c", "", "\u{fffd}\u{e9}", "last"], vec!["again"]]);
    let ended = "0 error: the connection to 127.0.0.1:PORT ended: there was no more data ()";
    assert_eq!(errors, [ended, ended]);
}

#[test]
fn a_server_that_is_not_there_is_tried_again() {
    // Below the ports that are handed out, so that no other test gets it meanwhile.
    let port = 20_000 + (std::process::id() % 10_000) as u16;
    let test = TestContext::new("test").unwrap();
    let lines = test.collect(&test.ssc.socket_text_stream("127.0.0.1", port));
    let events = Events::of(&test.ssc);
    test.ssc.start().unwrap();
    let heard = events.wait_for(3);
    assert!(heard[1].starts_with(&format!("0 error: cannot connect to 127.0.0.1:{port}: ")), "{heard:?}");
    let server = TcpListener::bind(("127.0.0.1", port)).unwrap();
    test.clock.advance(s(2));
    send(&server, b"here\n");
    events.wait_for(6);
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(non_empty(&lines), [["here"]]);
}

#[test]
fn a_name_without_an_address_is_told_and_fails_nothing() {
    let test = TestContext::new("test").unwrap();
    test.ssc.socket_text_stream("no such name", 1).print();
    let events = Events::of(&test.ssc);
    test.ssc.start().unwrap();
    let heard = events.wait_for(3);
    assert!(heard[1].starts_with("0 error: cannot connect to no such name:1: "), "{heard:?}");
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
}

#[test]
fn a_stop_ends_a_connection_that_waits_for_bytes() {
    let (server, port) = server();
    // Often, since the stop may come at any moment of connecting.
    for _ in 0..30 {
        let test = TestContext::new("test").unwrap();
        test.ssc.socket_text_stream("127.0.0.1", port).print();
        test.ssc.start().unwrap();
        let mut connection = accept(&server);
        test.ssc.stop(true).unwrap();
        assert_eq!(connection.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_converter_makes_the_elements() {
    let (out, _) = batches(&[b"1 2 x 3", b"4"], |test, port| {
        test.ssc.socket_stream("localhost", port, |reader| {
            reader
                .split(b' ')
                .map_while(Result::ok)
                .filter_map(|n| String::from_utf8(n).ok()?.parse::<i64>().ok())
        })
    });
    assert_eq!(out, [vec![1, 2, 3], vec![4]]);
}

#[test]
fn a_converter_that_panics_is_called_again_for_the_next_connection() {
    let (out, errors) = batches(&[b"1\nx\n2\n", b"3\n"], |test, port| {
        test.ssc.socket_stream("127.0.0.1", port, |reader| {
            reader.lines().map(|line| line.unwrap().parse::<i64>().expect("a number"))
        })
    });
    assert_eq!(out, [vec![1], vec![3]]);
    assert!(errors[0].contains("panicked: a number"), "{errors:?}");
}

#[test]
fn raw_blocks_are_elements_and_partitions_and_half_ones_are_told() {
    let sent: [&[u8]; 3] =
        [&[0, 0, 0, 2, 7, 255, 0, 0, 0, 0, 0, 0, 0, 1, 9], &[0, 0, 0, 1, 5, 0, 0, 0, 4, 1], &[255, 0, 0, 0]];
    let (out, errors) = batches(&sent, |test, port| {
        test.ssc.raw_socket_stream("127.0.0.1", port).transform(|rdd| rdd.glom())
    });
    assert_eq!(out, [vec![vec![vec![7, 255]], vec![vec![]], vec![vec![9]]], vec![vec![vec![5]]]]);
    assert!(errors[0].contains("there was no more data"), "{errors:?}");
    assert!(errors[1].contains("ended after 1 of 4 bytes"), "{errors:?}");
    assert!(errors[2].contains("says that it is -16777216 bytes long"), "{errors:?}");
}

#[test]
fn what_came_before_a_hard_stop_is_processed_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (server, port) = server();
    let context = || {
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(0)).unwrap();
        let lines = test.collect(&test.ssc.socket_text_stream("127.0.0.1", port));
        (test, lines)
    };
    {
        let (test, _) = context();
        let events = Events::of(&test.ssc);
        test.ssc.start().unwrap();
        send(&server, b"a\nb\n");
        events.wait_for(3);
        test.ssc.stop(false).unwrap();
    }
    let (test, lines) = context();
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.ssc.stop(false).unwrap();
    assert_eq!(lines.take(), [(at(1), vec!["a".to_owned(), "b".to_owned()])]);
}
