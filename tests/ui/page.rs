//! The streaming page as people see it.

use serde_json::json;
use tidemill::testing::TestContext;
use tidemill::{Clock as _, Duration, Error, HttpServer, RddQueue, StreamingContext, SystemClock, Time};

use super::browser::Browser;
use super::{serve, settings};

/// More batches than are kept.
const BATCHES: i64 = 10_050;
const CHARTS: [&str; 4] = ["Input rate", "Processing time", "Scheduling delay", "Total delay"];

/// A word count whose batch fails as soon as the word `fail` comes.
struct App {
    test: TestContext,
    words: RddQueue<String>,
    server: HttpServer,
}

impl App {
    /// Its clock is `behind` the real one.
    fn new(behind: Duration) -> Self {
        let interval = Duration::seconds(1);
        let now: Time = SystemClock::default().now().floor(interval) - behind;
        let builder = StreamingContext::builder("word-count").batch_interval(interval).worker_threads(2);
        let test = TestContext::from_builder(builder, now).expect("a context");
        let words = RddQueue::new();
        let pairs = test.ssc.queue_stream(&words).map(|word: String| (word, 1u64));
        let counts = pairs.reduce_by_key(|a, b| a + b);
        counts.foreach_rdd(|rdd| match rdd.filter(|(word, _)| word == "fail").count()? {
            0 => Ok(()),
            _ => Err(Error::output("cannot write to `counts`: the disk is full")),
        });
        let totals = pairs
            .update_state_by_key(|new, sum: Option<u64>| Some(sum.unwrap_or(0) + new.iter().sum::<u64>()));
        totals.uid("totals").expect("it keeps state").foreach_rdd(|rdd| rdd.count().map(drop));
        let server = serve(&test);
        Self { test, words, server }
    }

    fn url(&self, page: &str) -> String {
        format!("http://{}/#/{page}", self.server.address())
    }
}

const ROWS: &str = "document.querySelectorAll('main tbody tr').length";

#[track_caller]
fn no_findings(browser: &mut Browser, what: &str) {
    assert_eq!(browser.accessibility(), Vec::<String>::new(), "{what}");
}

#[test]
fn the_page_shows_ten_thousand_batches_and_the_one_that_failed() {
    let Some(mut browser) = Browser::start() else { return };
    let app = App::new(Duration::seconds(BATCHES + 100));

    // Nothing has happened yet, and that is said.
    browser.open(&app.url(""));
    browser.wait_for("document.body.innerText.includes('No batch has completed yet')");
    browser.wait_for("document.querySelector('#banner').innerText.includes('Starting')");
    no_findings(&mut browser, "the empty page");
    browser.picture("empty");

    app.test.ssc.start().unwrap();
    for batch in 0..BATCHES {
        app.words.push((0..batch % 7).map(|n| format!("word-{}", n % 4)));
        app.test.step().unwrap();
    }
    browser.reload();
    browser.wait_for("document.querySelector('#connection')?.innerText === 'live'");
    browser.wait_for("document.body.innerText.includes('word-count')");
    browser.run(
        "[...document.querySelectorAll('.segments button')].find((it) => it.innerText === 'All').click()",
    );
    browser.wait_for("document.body.innerText.includes('10,000 batches since')");
    for chart in CHARTS {
        browser.wait_for(&format!("document.querySelector('[data-chart=\"{chart}\"] canvas') !== null"));
        super::browser::eventually(chart, || {
            browser.is_drawn(chart).then_some(()).ok_or("nothing drawn".to_owned())
        });
        let bars = format!("{chart}, histogram");
        super::browser::eventually(&bars, || {
            browser.is_drawn(&bars).then_some(()).ok_or("nothing drawn".to_owned())
        });
    }

    // With all that history, news are still there soon, and nothing takes long.
    browser.run(
        "window.tasks = []; new PerformanceObserver((list) => tasks.push(...list.getEntries().map((it) => it.duration)))\
         .observe({ type: 'longtask' })",
    );
    for _ in 0..8 {
        app.test.step().unwrap();
        let id = app.test.clock.now().as_millis();
        browser.wait_for(&format!("document.querySelector('main a[href=\"#/batches/{id}\"]') !== null"));
    }
    let longest = browser.run("Math.max(0, ...tasks)").as_f64().unwrap();
    assert!(longest < 5_000.0, "the page stood still for {longest} ms");
    no_findings(&mut browser, "the overview");

    keys_lead_everywhere(&mut browser);
    a_failed_batch_is_shown_as_such(&mut browser, &app);
    assert_eq!(browser.complaints, Vec::<String>::new());
    pictures(&mut browser, &app);
}

fn keys_lead_everywhere(browser: &mut Browser) {
    browser.press("2");
    browser.wait_for("document.querySelector('h2')?.innerText === 'Batches'");
    assert_eq!(browser.run(ROWS), json!(50));
    let told = browser.run("document.querySelector('main [role=status]').innerText");
    assert!(told.as_str().unwrap().starts_with("10,0"), "{told}");
    browser.press("j");
    browser.press("j");
    let second = browser.run("document.activeElement.getAttribute('href')");
    assert_eq!(second, browser.run("document.querySelectorAll('tbody a')[1].getAttribute('href')"));
    browser.press("Enter");
    browser.wait_for("document.querySelector('h2')?.innerText.startsWith('Batch ')");
    browser.wait_for("document.body.innerText.includes('Where the time went')");
    no_findings(browser, "a batch");
    browser.press("3");
    browser.wait_for("document.querySelectorAll('svg .node').length === 6");
    browser.wait_for("document.querySelector('svg .stateful')?.textContent.includes('4 keys')");
    no_findings(browser, "the operators");
    browser.press("4");
    browser.wait_for("document.body.innerText.includes('No table is live')");
    no_findings(browser, "no tables");
    browser.press("?");
    browser.wait_for("document.querySelector('#shortcuts').open");
    no_findings(browser, "the list of keys");
    browser.run("document.querySelector('#shortcuts').close()");
    for theme in ["light", "dark", "auto"] {
        browser.press("t");
        let shown = browser.run("document.documentElement.dataset.theme ?? 'auto'");
        assert_eq!(shown, json!(theme));
    }
    browser.press("1");
}

fn a_failed_batch_is_shown_as_such(browser: &mut Browser, app: &App) {
    app.words.push(["fail".to_owned()]);
    assert!(app.test.step().is_err());
    let id = app.test.clock.now().as_millis();
    let banner = browser.wait_for("document.querySelector('#banner.bad')?.innerText");
    assert!(banner.as_str().unwrap().contains("the disk is full"), "{banner}");
    browser.wait_for("document.querySelector('tr.failed .pill.bad')?.innerText === 'failed'");
    browser.wait_for("document.querySelector('#connection').innerText === 'stopped'");
    no_findings(browser, "the overview after a failure");
    browser.run("document.querySelector('#banner a').click()");
    browser.wait_for("document.querySelector('.failure pre')?.innerText.includes('the disk is full')");
    assert_eq!(browser.run("location.hash"), json!(format!("#/batches/{id}")));
    assert_eq!(browser.run("document.querySelectorAll('tr.failed').length"), json!(1));
    browser.wait_for("document.querySelector('.legend').innerText.includes(', in which it failed')");
    // Opened by its address alone, it leads to its neighbours all the same.
    browser.reload();
    browser.wait_for("document.querySelector('[rel=prev]')?.innerText === 'Earlier'");
    no_findings(browser, "a failed batch");
}

/// For people, who are asked to look at them.
fn pictures(browser: &mut Browser, app: &App) {
    if std::env::var_os("TIDEMILL_SCREENSHOTS").is_none() {
        return;
    }
    let id = app.test.clock.now().as_millis();
    for (kind, width, height, scheme) in
        [("light", 1_440, 900, "light"), ("dark", 1_440, 900, "dark"), ("phone", 390, 844, "light")]
    {
        browser.resize(width, height);
        browser.prefer(scheme);
        for page in ["", "batches", "operators", "tables", &format!("batches/{id}")] {
            browser.run(&format!("location.hash = '#/{page}'"));
            let tab = if page.is_empty() { "overview" } else { page.split('/').next().unwrap_or(page) };
            browser.wait_for(&format!(
                "document.querySelector('.tabs [aria-current]')?.dataset.page === '{tab}' && !document.querySelector('.loading')"
            ));
            browser.run("new Promise((resolve) => setTimeout(resolve, 1500))");
            let name =
                if page.is_empty() { "overview" } else { page.split('/').nth(1).map_or(page, |_| "batch") };
            browser.picture(&format!("{name}-{kind}"));
        }
    }
}

#[test]
fn the_page_asks_for_the_token_once() {
    let Some(mut browser) = Browser::start() else { return };
    let app = App::new(Duration::seconds(10));
    let server = HttpServer::start(&app.test.ssc, settings().token("open sesame")).unwrap();
    app.test.ssc.start().unwrap();
    browser.open(&format!("http://{}/", server.address()));
    browser.wait_for("document.querySelector('#token').open");
    assert_eq!(browser.run("document.body.innerText.includes('word-count')"), json!(false));
    no_findings(&mut browser, "the question for a token");
    for (token, then) in [
        ("wrong", "!document.querySelector('#token-wrong').hidden"),
        ("open sesame", "document.querySelector('h1').innerText === 'word-count'"),
    ] {
        browser.run(&format!("document.querySelector('#token-value').value = '{token}'; document.querySelector('#token button').click()"));
        browser.wait_for(then);
    }
    app.test.step().unwrap();
    browser.wait_for("document.querySelectorAll('main tbody tr').length > 0");
}
