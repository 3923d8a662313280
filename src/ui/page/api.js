// What the application is asked: REST, and the events that it sends.

const TOKEN = 'tidemill-token';

/** No answer, or one that says no. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let asking = null;

/** Has the token typed in; at once for all who wait for it. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById('token');
    const value = document.getElementById('token-value');
    document.getElementById('token-wrong').hidden = sessionStorage.getItem(TOKEN) === null;
    value.value = '';
    dialog.addEventListener('close', () => {
      sessionStorage.setItem(TOKEN, value.value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.addEventListener('cancel', (event) => event.preventDefault());
    dialog.showModal();
  });
  return asking;
}

async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers, cache: 'no-store' });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Refused('the application does not answer');
    }
    if (answer.status !== 401) return answer;
    await askForToken();
  }
}

async function json(answer) {
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  let message = text.trim();
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // Not every refusal is JSON.
  }
  throw new Refused(message || `HTTP status ${answer.status}`, answer.status);
}

/** GET /api/v1/PATH */
export const get = async (path) => json(await request(`/api/v1/${path}`));

/** POST /api/v1/PATH with a JSON body */
export const post = async (path, body) => json(await request(`/api/v1/${path}`, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
}));

/**
 * Follows the application's events until the connection ends. `fetch` in place of `EventSource`, which cannot send a token.
 * Silence for longer than the server's keep-alives is an end, too.
 */
export async function follow(opened, heard) {
  const abort = new AbortController();
  const answer = await request('/api/v1/events', { signal: abort.signal });
  if (!answer.ok) throw new Refused(`HTTP status ${answer.status}`, answer.status);
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  let silence;
  const wait = () => {
    clearTimeout(silence);
    silence = setTimeout(() => abort.abort(), 45_000);
  };
  try {
    for (wait(); ; wait()) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const event = { name: 'message', data: '' };
        for (const line of text.slice(0, end).split('\n')) {
          if (line.startsWith('event:')) event.name = line.slice(6).trim();
          if (line.startsWith('data:')) event.data += line.slice(5).trimStart();
        }
        text = text.slice(end + 2);
        if (event.data) heard(event.name, JSON.parse(event.data));
      }
    }
  } catch (error) {
    if (error.name !== 'AbortError' && error.name !== 'TypeError') throw error;
  } finally {
    clearTimeout(silence);
  }
}
