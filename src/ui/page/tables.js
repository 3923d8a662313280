// Live tables, and a console that asks them in SQL.

import { get, post } from './api.js';
import { h, replace, say, table } from './dom.js';
import { count, moment, plural, took } from './format.js';
import { interval, store, watch } from './store.js';

const LAST = 'tidemill-sql';
const EXAMPLE = `outputs:
  - { from: totals, table: {} }`;

const shown = (value) => (value === null ? h('span', { class: 'muted' }, 'NULL') : typeof value === 'object' ? JSON.stringify(value) : String(value));
const isNumber = (type) => /int|double|float|real|decimal|numeric/i.test(type);
const quoted = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);

/** The query for a table's first rows. */
const first = (name) => `select * from ${quoted(name)} limit 20`;

function result(answer, ms) {
  const columns = answer.columns.map((column) => ({ title: [column.name, h('small', { class: 'muted' }, ` ${column.type}`)], end: isNumber(column.type) }));
  const rows = answer.rows.map((row) => h('tr', {}, row.map((value, at) => h('td', { class: columns[at].end ? 'end' : undefined }, shown(value)))));
  const note = [plural(answer.rows.length, 'row'), answer.truncated && 'more were left out', `in ${took(ms)}`,
    answer.batchId !== null && `as of batch ${moment(answer.batchId, interval())}`].filter(Boolean).join(', ');
  return [h('p', { class: 'muted', id: 'answered' }, note), table('Result', columns, rows, 'The query gave no rows.')];
}

/** Shows the tables in `main`; gives what ends it. */
export function tables(main) {
  let [running, seen, open, asked] = [false, -1, true, 0];
  const names = h('div', {}, h('p', { class: 'loading' }, 'Asking for the tables …'));
  const sql = h('textarea', { id: 'sql', rows: 5, spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', 'aria-describedby': 'sql-hint' });
  sql.value = localStorage.getItem(LAST) ?? '';
  const again = h('input', { type: 'checkbox', id: 'again' });
  const run = h('button', { type: 'submit', class: 'primary' }, 'Run');
  const answer = h('div', { role: 'region', 'aria-live': 'polite', 'aria-label': 'Answer' });
  const form = h('form', { onsubmit: (event) => { event.preventDefault(); ask(); } },
    h('label', { for: 'sql' }, 'Query'), sql,
    h('div', { class: 'bar' }, run, h('label', { class: 'check', for: 'again' }, again, 'Again with each batch'),
      h('span', { class: 'muted', id: 'sql-hint' }, 'Ctrl Enter runs it. A query reads what the last batch left.')));
  sql.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  const console_ = h('section', { class: 'card', 'aria-label': 'SQL console' }, form, answer);
  replace(main, h('h2', {}, 'Live tables'), h('div', { class: 'console' }, h('section', { class: 'card', 'aria-label': 'Tables' }, names), console_));

  async function ask() {
    const text = sql.value.trim();
    if (running || !text) return;
    running = true;
    localStorage.setItem(LAST, text);
    run.disabled = true;
    const begun = performance.now();
    try {
      const found = await post('query', { sql: text });
      if (open) replace(answer, result(found, performance.now() - begun));
    } catch (error) {
      again.checked = false;
      if (open) replace(answer, h('pre', { class: 'failure', role: 'alert' }, error.message));
    } finally {
      running = false;
      run.disabled = false;
    }
  }

  const listed = (title, those) => [h('h3', {}, title), h('ul', { class: 'tables' }, those.map((it) => h('li', {},
    h('button', {
      type: 'button', class: 'link', 'data-key': `table-${it.name}`, title: 'Ask for its first rows',
      onclick: () => { sql.value = first(it.name); ask(); },
    }, it.name),
    it.numRows !== null && h('span', { class: 'muted' }, ` ${plural(it.numRows, 'row')}`),
    h('ul', { class: 'columns-of' }, it.columns.map((column) => h('li', {}, column.name, h('small', { class: 'muted' }, ` ${column.type}`)))))))];

  async function list() {
    if (seen === store.version && seen !== -1) return;
    // Names and counts are for orientation: every two seconds is often enough.
    if (performance.now() - asked < 2_000 && seen !== -1) return;
    [seen, asked] = [store.version, performance.now()];
    try {
      const all = await get('tables');
      if (!open) return;
      console_.hidden = all.length === 0;
      console_.parentElement.classList.toggle('alone', all.length === 0);
      // What an output makes of a stream, and whose rows are known therefore; then states, batches and tables in files.
      const [live, others] = [all.filter((it) => it.numRows !== null), all.filter((it) => it.numRows === null)];
      if (!sql.value && all.length) sql.value = first((live[0] ?? others[0]).name);
      replace(names,
        live.length ? listed('Tables', live)
          : h('div', { class: 'empty' }, h('p', {}, 'No table is live. An output makes one of a stream; then it can be asked here in SQL:'), h('pre', {}, EXAMPLE)),
        others.length > 0 && listed('States, batches and files', others));
    } catch (error) {
      if (open) replace(names, h('p', { class: 'empty' }, error.message));
    }
  }

  let version = store.version;
  const end = watch(() => {
    list();
    if (again.checked && version !== store.version) {
      version = store.version;
      ask();
    }
  });
  list();
  return { end: () => { open = false; end(); } };
}
