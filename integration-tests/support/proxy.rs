//! A TCP proxy before a broker that understands just enough of Kafka's protocol to lose the answer to a request of one kind, and
//! to have a cluster without brokers.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::eventually;

const LIMIT: Duration = Duration::from_secs(60);

/// Kafka's number for the request that ends a transaction.
pub const END_TXN: i16 = 26;
/// Kafka's number for the request that brings records.
pub const PRODUCE: i16 = 0;
/// Kafka's number for the request that reads records.
pub const FETCH: i16 = 1;

/// What the proxy does with what comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections are closed, and new ones too.
    Cut,
    /// Connections stay, nothing comes through.
    Frozen,
    /// Answers to questions for metadata name no broker, and partitions without a leader.
    NoBrokers,
    /// Turns to `Cut` before a request of this kind reaches the broker.
    CutBefore(i16),
    /// Turns to `Cut` once the broker has answered a request of this kind, and keeps the answer.
    CutAfter(i16),
}

/// The proxy; it ends with the process.
pub struct Proxy {
    address: String,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    changed: Condvar,
    streams: Mutex<Vec<TcpStream>>,
    /// The last request of each kind from each client, as it came.
    requests: Mutex<BTreeMap<(i16, String), Vec<u8>>>,
}

impl Proxy {
    /// Listens on `port`, and forwards to `broker`.
    pub fn start(port: u16, broker: String) -> Proxy {
        let address = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind(&address).expect("the port is free");
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Open),
            changed: Condvar::new(),
            streams: Mutex::default(),
            requests: Mutex::default(),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.mode() != Mode::Cut
                    && let Ok(broker) = TcpStream::connect(&broker)
                {
                    shared.join(client, broker);
                }
            }
        });
        Proxy { address, state }
    }

    /// What a client takes for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.address
    }

    pub fn open(&self) {
        self.state.turn(Mode::Open);
    }

    pub fn cut(&self) {
        self.state.turn(Mode::Cut);
    }

    pub fn freeze(&self) {
        self.state.turn(Mode::Frozen);
    }

    /// Tells who asks what a broker tells that is not registered yet, or not any more.
    pub fn name_no_brokers(&self) {
        self.state.turn(Mode::NoBrokers);
    }

    /// Cuts when the next request of this kind comes; the broker does not see it.
    pub fn cut_before(&self, request: i16) {
        self.state.turn(Mode::CutBefore(request));
    }

    /// Cuts when the next request of this kind has been answered; the client does not see the answer.
    pub fn cut_after(&self, request: i16) {
        self.state.turn(Mode::CutAfter(request));
    }

    /// The last request of each kind from each client, by Kafka's number for the kind and the client's id.
    pub fn requests(&self) -> BTreeMap<(i16, String), Vec<u8>> {
        self.state.requests.lock().expect("no thread panicked").clone()
    }

    /// Waits until the moment has come.
    #[track_caller]
    pub fn wait_until_cut(&self) {
        eventually(LIMIT, "the request that the proxy waits for", || match self.state.mode() {
            Mode::Cut => Ok(()),
            mode => Err(format!("{mode:?}")),
        });
    }
}

/// Forwards what comes to `port` to `broker` whatever it is, each piece after `delay`; it ends with the process.
pub fn slow(port: u16, broker: String, delay: Duration) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(broker) = TcpStream::connect(&broker) else { continue };
            let both = || Some((client.try_clone().ok()?, broker.try_clone().ok()?));
            let Some((from_client, to_broker)) = both() else { continue };
            thread::spawn(move || late(from_client, to_broker, delay));
            thread::spawn(move || late(broker, client, delay));
        }
    });
}

fn late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let mut piece = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        super::pause(delay);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl State {
    fn mode(&self) -> Mode {
        *self.mode.lock().expect("no thread panicked")
    }

    fn turn(&self, mode: Mode) {
        let mut now = self.mode.lock().expect("no thread panicked");
        self.set(&mut now, mode);
    }

    fn set(&self, now: &mut Mode, mode: Mode) {
        *now = mode;
        if mode == Mode::Cut {
            for stream in self.streams.lock().expect("no thread panicked").drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn join(self: &Arc<Self>, client: TcpStream, broker: TcpStream) {
        // The kind and the version of each request that waits for its answer, by its correlation id.
        type Requests = Arc<Mutex<HashMap<[u8; 4], (i16, i16)>>>;
        let requests = Requests::default();
        let both = || Some((client.try_clone().ok()?, broker.try_clone().ok()?));
        let (Some((from_client, to_broker)), Some((kept, kept_too))) = (both(), both()) else { return };
        self.streams.lock().expect("no thread panicked").extend([kept, kept_too]);
        let (state, sent) = (self.clone(), requests.clone());
        thread::spawn(move || {
            pump(from_client, to_broker, |frame| {
                let &[k0, k1, v0, v1, ref id @ ..] = frame.first_chunk::<8>()?;
                let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
                sent.lock().expect("no thread panicked").insert(*id, (key, version));
                state.note(key, &frame);
                state.lets_through(Mode::CutBefore(key)).then_some(frame)
            });
        });
        let state = self.clone();
        thread::spawn(move || {
            pump(broker, client, |frame| {
                let id = frame.first_chunk::<4>()?;
                let request = requests.lock().expect("no thread panicked").remove(id);
                let Some((key, version)) = request else { return Some(frame) };
                if !state.lets_through(Mode::CutAfter(key)) {
                    return None;
                }
                let names_none = key == ApiKey::Metadata as i16 && state.mode() == Mode::NoBrokers;
                Some(if names_none { without_brokers(&frame, version) } else { frame })
            });
        });
    }

    fn note(&self, key: i16, frame: &[u8]) {
        // Behind kind, version and correlation id stands the client's id, with its length.
        let Some((length, rest)) = frame.get(8..).and_then(|rest| rest.split_first_chunk::<2>()) else {
            return;
        };
        let length = usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0);
        let client = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
        self.requests.lock().expect("no thread panicked").insert((key, client), frame.to_vec());
    }

    fn lets_through(&self, moment: Mode) -> bool {
        let mut mode = self.mode.lock().expect("no thread panicked");
        loop {
            match *mode {
                Mode::Frozen => mode = self.changed.wait(mode).expect("no thread panicked"),
                Mode::Cut => return false,
                now if now == moment => {
                    self.set(&mut mode, Mode::Cut);
                    return false;
                }
                _ => return true,
            }
        }
    }
}

/// The answer to a question for metadata, as it is from a broker that knows of none.
fn without_brokers(frame: &[u8], version: i16) -> Vec<u8> {
    let header = if ApiKey::Metadata.response_header_version(version) > 0 { 5 } else { 4 };
    let (header, mut body) = frame.split_at(header);
    let mut metadata = MetadataResponse::decode(&mut body, version).expect("a broker's answer");
    metadata.brokers.clear();
    metadata.controller_id = BrokerId(-1);
    for partition in metadata.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        // LEADER_NOT_AVAILABLE
        partition.error_code = 5;
        partition.leader_id = BrokerId(-1);
    }
    let mut altered = header.to_vec();
    metadata.encode(&mut altered, version).expect("what was decoded can be encoded");
    altered
}

/// Forwards frames, as `change` has them, until it lets one not pass or a side is closed; then closes both.
fn pump(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(Vec<u8>) -> Option<Vec<u8>>) {
    let mut forward = || -> io::Result<bool> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut frame)?;
        let Some(frame) = change(frame) else { return Ok(false) };
        to.write_all(&(frame.len() as u32).to_be_bytes())?;
        to.write_all(&frame)?;
        Ok(true)
    };
    while let Ok(true) = forward() {}
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
