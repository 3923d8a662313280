//! A real Chromium without a window, driven over its DevTools protocol.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    /// What the page complained of.
    pub complaints: Vec<String>,
    _folder: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It is ours, and of no use without the test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks until there is an answer.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "a browser lives by the clock on the wall")]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if Instant::now() >= deadline => panic!("{what}: not within {LIMIT:?}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

impl Browser {
    /// Starts Chromium; nothing where there is none.
    #[allow(clippy::print_stderr, reason = "a test that did nothing says so")]
    pub fn start() -> Option<Self> {
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success()))
        else {
            eprintln!("skipped: there is no Chromium here, run scripts/setup test");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
            .args([
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--remote-debugging-port=0",
                "about:blank",
            ])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was there a moment ago");
        let place = folder.path().join("DevToolsActivePort");
        let (port, path) = eventually("Chromium's port", || {
            let text = std::fs::read_to_string(&place).map_err(|error| error.to_string())?;
            let (port, path) = text.split_once('\n').ok_or("half a file")?;
            Ok((port.to_owned(), path.trim().to_owned()))
        });
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let (socket, _) =
            tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).expect("a websocket");
        let mut browser = Self {
            process,
            socket,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(1_440, 900);
        Some(browser)
    }

    /// Calls a method of the protocol, and gives its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, String> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).expect("it listens");
        loop {
            let Message::Text(text) = self.socket.read().expect("it answers") else { continue };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == id {
                let error = &answer["error"];
                return if error.is_null() { Ok(answer["result"].clone()) } else { Err(error.to_string()) };
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(&parameters["exceptionDetails"]),
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => Some(&parameters["args"]),
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => Some(&parameters["entry"]),
            _ => None,
        };
        self.complaints.extend(complaint.map(Value::to_string));
    }

    pub fn reload(&mut self) {
        self.call("Page.reload", json!({}));
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// `light` or `dark`, as the system has it.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What a script gives in the page.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> Value {
        self.try_run(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    fn try_run(&mut self, script: &str) -> Result<Value, String> {
        let asked = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let answer = self.try_call("Runtime.evaluate", asked)?;
        let exception = &answer["exceptionDetails"];
        if exception.is_null() { Ok(answer["result"]["value"].clone()) } else { Err(exception.to_string()) }
    }

    /// Waits until a script gives something true.
    #[track_caller]
    pub fn wait_for(&mut self, script: &str) -> Value {
        // Between two pages there is nothing to look at.
        eventually(script, || match self.try_run(script) {
            Ok(Value::Null | Value::Bool(false)) | Err(_) => {
                let shown = self.try_run("document.body.innerText");
                Err(format!("the page says:\n{shown:?}\n{:?}", self.complaints))
            }
            Ok(value) => Ok(value),
        })
    }

    /// Presses a key, as a person would; `Control+` in front of its name holds that down.
    pub fn press(&mut self, key: &str) {
        let (control, key) = key.strip_prefix("Control+").map_or((false, key), |key| (true, key));
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            " " => 32,
            _ => 0,
        };
        let text = match key {
            _ if control => "",
            "Enter" => "\r",
            _ if key.chars().count() == 1 => key,
            _ => "",
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "modifiers": if control { 2 } else { 0 } });
            if code > 0 {
                event["windowsVirtualKeyCode"] = json!(code);
            }
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            // What the desktop makes of keys, the protocol has to be told.
            if kind == "keyDown" && control && key == "a" {
                event["commands"] = json!(["selectAll"]);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Whether a chart has more on it than one colour.
    pub fn is_drawn(&mut self, chart: &str) -> bool {
        let script = format!(
            "(() => {{ const canvas = document.querySelector('[data-chart=\"{chart}\"] canvas'); if (!canvas) return false; \
             const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; \
             let inked = 0; for (let at = 3; at < data.length; at += 4) inked += data[at] > 0; return inked > 200; }})()"
        );
        self.run(&script) == json!(true)
    }

    /// What axe-core finds that is serious or worse, in words.
    pub fn accessibility(&mut self) -> Vec<String> {
        self.run(include_str!("axe/axe-core-4.14.1.min.js"));
        let found = self.run(
            "axe.run(document).then((result) => result.violations.filter((it) => ['serious', 'critical'].includes(it.impact))\
             .flatMap((it) => it.nodes.map((node) => `${it.id}: ${node.html} ${node.failureSummary}`)))",
        );
        found.as_array().expect("a list").iter().map(ToString::to_string).collect()
    }

    /// A picture of the page from top to bottom, for people: `NAME.png` in the folder that TIDEMILL_SCREENSHOTS names.
    pub fn picture(&mut self, name: &str) {
        use base64::Engine as _;
        let Some(folder) = std::env::var_os("TIDEMILL_SCREENSHOTS") else { return };
        let taken = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().expect("text"));
        let path = std::path::Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(path, bytes.expect("base64")).expect("the folder is there");
    }
}
