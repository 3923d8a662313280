//! The SQL console over the live tables of a running pipeline, with the keyboard alone.

use serde_json::json;

use super::browser::Browser;
use crate::lines::Lines;

/// The last words, all words with their batches, and their totals.
const PIPELINE: &str = "\
streams:
  words:
    sql: \"select unnest(string_to_array(value, ' ')) as word from lines\"
  totals:
    map_with_state: { from: words, key: [word], state: { total: \"count(*)\" }, emit: updated }
outputs:
  - { from: words, table: { name: last_words } }
  - { from: words, table: { name: words, remember: 10m } }
  - { from: totals, table: { remember: 10m } }
";

/// The answer's rows, a text for each, with `|` between their values.
const ROWS: &str = "[...document.querySelectorAll('[aria-label=Answer] tbody tr')].map((row) => \
     [...row.children].map((it) => it.innerText).join('|'))";

/// Has the query typed in place of the last one, and run.
fn ask(browser: &mut Browser, sql: &str) {
    browser.press("Control+a");
    sql.chars().for_each(|c| browser.press(&c.to_string()));
    assert_eq!(browser.run("document.querySelector('#sql').value"), json!(sql));
    browser.press("Control+Enter");
}

/// Waits until the answer has these rows.
#[track_caller]
fn expect(browser: &mut Browser, rows: &[&str]) {
    browser.wait_for(&format!("JSON.stringify({ROWS}) === '{}'", json!(rows)));
}

#[test]
fn the_console_asks_live_tables_with_the_keyboard() {
    let Some(mut browser) = Browser::start() else { return };
    let mut lines = Lines::run("200ms", "format: text", PIPELINE);
    browser.open(&format!("http://{}/", lines.address()));
    browser.wait_for("document.querySelector('#connection')?.innerText === 'live'");
    lines.send("b a a");

    // The tables with their columns and rows.
    browser.press("4");
    let tables = "[...document.querySelector('.tables').children].map((it) => it.innerText.replace(/\\s+/g, ' ').trim()).join('; ')";
    browser.wait_for(&format!(
        "{tables} === 'last_words 3 rows batch_time timestamp word text; \
         totals 2 rows batch_time timestamp word text total bigint; words 3 rows batch_time timestamp word text'"
    ));
    let others = browser.run("[...document.querySelectorAll('.tables')[1].querySelectorAll('button')].map((it) => it.innerText).join()");
    assert_eq!(others, json!("batches,state_totals,states"));
    for _ in 0..40 {
        browser.press("Tab");
        if browser.run("document.activeElement.id") == json!("sql") {
            break;
        }
    }
    assert_eq!(
        browser.run("document.querySelector('#sql').value"),
        json!("select * from last_words limit 20")
    );
    ask(&mut browser, "select word, total, total > 1 as often from totals order by word");
    expect(&mut browser, &["a|2|true", "b|1|false"]);
    let heads = browser.run(
        "[...document.querySelectorAll('[aria-label=Answer] thead th')].map((it) => it.innerText).join()",
    );
    assert_eq!(heads, json!("word text,total bigint,often boolean"));
    let note = browser.run("document.querySelector('#answered').innerText");
    assert!(note.as_str().unwrap().starts_with("2 rows, in "), "{note}");
    assert!(note.as_str().unwrap().contains("as of batch "), "{note}");
    assert_eq!(browser.accessibility(), Vec::<String>::new(), "an answer");

    // A table that remembers has the rows of both batches; one that does not has those of the last.
    lines.send("a c");
    browser.wait_for(&format!("{tables}.includes('words 5 rows')"));
    ask(
        &mut browser,
        "select word, count(*) as n, count(distinct batch_time) as batches from words group by word order by word",
    );
    expect(&mut browser, &["a|3|2", "b|1|1", "c|1|1"]);
    ask(&mut browser, "select word from last_words order by word");
    expect(&mut browser, &["a", "c"]);
    ask(&mut browser, "select word from words where word = 'z'");
    browser.wait_for(
        "document.querySelector('[aria-label=Answer]').innerText.includes('The query gave no rows.')",
    );

    // Again with each batch, and nobody has to press anything.
    ask(&mut browser, "select max(total) as most from totals");
    expect(&mut browser, &["3"]);
    browser.press("Tab");
    browser.press("Tab");
    assert_eq!(browser.run("document.activeElement.id"), json!("again"));
    browser.press(" ");
    lines.send("a");
    expect(&mut browser, &["4"]);
    browser.picture("console");

    what_is_wrong_is_said(&mut browser);
    // A refused query is a refused request, which browsers note.
    browser.complaints.retain(|complaint| !complaint.contains("/api/v1/query"));
    assert_eq!(browser.complaints, Vec::<String>::new());
    pictures(&mut browser);
    assert_eq!(lines.running.stop(), Some(0));
}

fn what_is_wrong_is_said(browser: &mut Browser) {
    browser.run("document.querySelector('#sql').focus()");
    for (wrong, part) in [
        ("select nothing from totals", "nothing"),
        ("select * from nowhere", "nowhere"),
        ("select word from", "found: EOF"),
        ("delete from totals", "only a `select` can stand here"),
    ] {
        ask(browser, wrong);
        let said = browser.wait_for(&format!(
            "(() => {{ const said = document.querySelector('[aria-label=Answer] pre.failure')?.innerText; \
             return said?.includes('{part}') && said; }})()"
        ));
        assert!(!said.as_str().unwrap().contains(" at src/"), "{wrong}: {said}");
        // It is not asked again and again.
        assert_eq!(browser.run("document.querySelector('#again').checked"), json!(false), "{wrong}");
    }
    assert_eq!(browser.accessibility(), Vec::<String>::new(), "a refused query");
    ask(browser, "select count(*) as n from totals");
    expect(browser, &["5"]);
}

/// For people, who are asked to look at them.
fn pictures(browser: &mut Browser) {
    ask(browser, "select * from words order by word");
    browser.wait_for(&format!("{ROWS}.length === 6"));
    for (kind, width, height, scheme) in
        [("light", 1_440, 900, "light"), ("dark", 1_440, 900, "dark"), ("phone", 390, 844, "light")]
    {
        browser.resize(width, height);
        browser.prefer(scheme);
        browser.picture(&format!("console-{kind}"));
    }
}
