//! Brokers that say nothing.

use std::io::Read as _;
use std::net::TcpListener;

use super::*;

#[test]
fn a_stop_is_not_kept_waiting_by_a_broker_that_takes_a_connection_and_says_nothing() {
    for protocol in ["plaintext", "ssl"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let options = [("security.protocol".to_owned(), protocol.to_owned())];
        let settings = Arc::new(Settings::new("test".to_owned(), &options).unwrap());
        let runner = Arc::new(Runner::new(1, 1, 0, None).unwrap());
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Connection::open(&node, &settings, &runner).err());
            // It has asked, and waits for the answer.
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0]).unwrap();
            let since = Stopwatch::start();
            runner.cancel();
            assert!(matches!(opening.join().unwrap(), Some(Trouble::GivenUp)), "{protocol}");
            assert!(since.elapsed() < Duration::from_secs(5), "{protocol}");
            // And no other is begun.
            let again = Connection::open(&node, &settings, &runner).err();
            assert!(matches!(again, Some(Trouble::GivenUp)), "{protocol}");
        });
    }
}
