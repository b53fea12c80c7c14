import { Chart } from './chart.js';
import { commands } from './commands.js';
import { Connection, refusal } from './connection.js';

const LINES = 200; // rows that the table of events keeps
const $ = id => document.getElementById(id);
const element = (name, properties, ...children) => {
  const e = Object.assign(document.createElement(name), properties);
  e.append(...children);
  return e;
};
const time = date => date.toLocaleTimeString([], { hourCycle: 'h23' });
const show = (id, text) => { if ($(id).textContent !== String(text)) $(id).textContent = text; };

/** Ends a request that somebody on the way keeps. */
const patience = () => AbortSignal.timeout(10_000);

const chart = new Chart($('chart'), show);
let connection, last, count = 0, service = {};

// Watching

function ask() {
  const form = $('watch').elements;
  const cursor = { now: '', start: '0', after: form.after.value || '0' }[form.from.value];
  const [consumer, token, topics, types] = ['consumer', 'token', 'topics', 'types'].map(name => form[name].value.trim());
  return { consumer, token, topics, types, format: form.format.value, cursor };
}

function state(name, text) {
  $('state').dataset.state = name;
  show('state', text);
  $('cut').disabled = name === 'cut' || name === 'refused';
  $('resume').disabled = !$('cut').disabled;
}

function connect(ask) {
  connection?.end();
  last = ask;
  const mine = connection = new Connection(ask, {
    blocked: () => $('block').checked,
    onTransport(name) { show('transport', name); },
    onState(name, detail) {
      if (mine !== connection) return;
      state(name, detail ? `${name}: ${detail}` : name);
      if (name === 'refused' && ask.format !== 'payload' && detail.includes('format')) {
        $('watch').elements.format.value = 'payload'; // an older service has no other
        connect({ ...ask, format: 'payload' });
      }
    },
    onHeartbeat(cursor) {
      show('cursor', cursor);
      show('heartbeat', time(new Date()));
    },
    onReset({ id, text }) { rows.push({ id, type: 'reset', latency: NaN, text, reset: true }); draw(); },
    onEvent({ id, type, text, subscriber = '', time: committed }) {
      // What was committed before the connection began says nothing about its speed.
      const replayed = committed && Date.parse(committed) < mine.began;
      const latency = committed && !replayed ? Math.max(0, Date.now() - Date.parse(committed)) : NaN;
      show('cursor', id);
      show('count', ++count);
      if (!Number.isNaN(latency)) show('latency', `${latency} ms`);
      chart.add(latency);
      rows.push({ id, type, subscriber, latency, text, replayed });
      draw();
    },
  });
  mine.run();
  refresh();
}

/** What came, with the envelope that repeats the other columns less in sight. */
function code(text) {
  const [envelope] = last.format === 'payload' ? [''] : /^.*?"(payload|data)":|/.exec(text);
  const rest = text.slice(envelope.length, envelope.length + 2000), left = text.length - envelope.length - rest.length;
  return element('code', {}, element('span', { className: 'envelope', textContent: envelope }), rest, left > 0 ? ` … and ${left} characters` : '');
}

// Rows are drawn once for each frame of the screen, however many events come.
let rows = [], drawing;

function draw() { drawing ??= setTimeout(() => requestAnimationFrame(drawRows), 20); }

function drawRows() {
  drawing = undefined;
  const fresh = rows.slice(-LINES).reverse().map(({ id, type, subscriber = '', latency, text, replayed, reset }) => {
    const known = !Number.isNaN(latency);
    const cell = (properties, ...children) => element('td', { role: 'cell', ...properties }, ...children); // see .stacks
    return element('tr', { role: 'row', className: reset ? 'reset' : 'fresh' },
      cell({ textContent: id }), cell({ textContent: type }), cell({ textContent: subscriber }),
      cell({ className: known ? '' : 'aged', textContent: known ? `${latency} ms` : replayed ? 'replayed' : '–' }),
      cell({}, code(text)));
  });
  rows = [];
  $('events').prepend(...fresh);
  while ($('events').childElementCount > LINES) $('events').lastElementChild.remove();
  $('nothing').hidden = $('events').childElementCount > 0;
}

$('watch').addEventListener('submit', event => {
  event.preventDefault();
  connect(ask());
});
$('cut').addEventListener('click', () => {
  connection.end();
  state('cut', 'cut: resume when you like, nothing is lost meanwhile');
  $('resume').focus();
});
$('resume').addEventListener('click', () => {
  connect({ ...last, cursor: connection.cursor });
  $('cut').disabled = false;
  $('cut').focus();
});
$('block').addEventListener('change', () => connection?.interrupt());
$('clear').addEventListener('click', () => {
  $('events').replaceChildren();
  $('nothing').hidden = false;
});
$('watch').elements.after.addEventListener('input', () => { $('watch').elements.from.value = 'after'; });
$('watch').addEventListener('input', refresh);

// Inserting

$('insert').addEventListener('submit', async event => {
  event.preventDefault();
  const { subscriber, type, payload } = Object.fromEntries(new FormData(event.target));
  try {
    JSON.parse(payload);
  } catch (error) {
    return inserted(`The payload is not JSON: ${error.message}`, true);
  }
  // The payload goes as it is written: reading it as JavaScript would round its numbers.
  const body = `{"subscriber":${JSON.stringify(subscriber)},"type":${JSON.stringify(type)},"payload":${payload}}`;
  try {
    const response = await fetch('console/events', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, signal: patience() });
    if (response.ok) return inserted(`Inserted at ${time(new Date())}.`, false);
    inserted(`Refused: ${(await refusal(response)).message}`, true);
  } catch (error) {
    inserted(`No answer, so it may be inserted or not: ${error.message}`, true);
  }
});

function inserted(text, failed) {
  show('inserted', text);
  $('inserted').classList.toggle('failed', failed);
}

// The service

async function look() {
  try {
    const response = await fetch('console/status', { cache: 'no-store', signal: patience() });
    if (!response.ok) throw await refusal(response);
    const s = await response.json();
    const changed = s.database !== service.database;
    service = s;
    $('service').className = s.status === 'UP' ? 'up' : 'down';
    show('service', s.status === 'UP' ? `${s.version}, delivering` : `${s.version}, not delivering: ${s.reason}`);
    $('insert-section').hidden = !s.inserts;
    $('token-label').hidden = !s.tokens;
    for (const name of ['position', 'watermark', 'sequence', 'writers']) show(name, s[name]);
    held(s);
    sessions(s);
    if (changed) refresh();
  } catch (error) {
    $('service').className = 'down';
    show('service', `The service does not answer: ${error.message}`);
  }
  setTimeout(look, 1000);
}

function held(s) {
  const held = s.heldBackSeconds > 0.5;
  $('held').classList.toggle('held', held);
  const ids = s.sequence - s.watermark;
  show('held-text', !held ? 'No transaction holds events back.' :
    `${s.heldBackBy ? `The transaction of process ${s.heldBackBy}` : 'A prepared transaction'} inserted events and has been open for ` +
    `${Math.round(s.heldBackSeconds)} s: ${ids} ${ids === 1 ? 'position waits' : 'positions wait'} for it.`);
  const query = s.heldBackBy ? `select * from pg_stat_activity where pid = ${s.heldBackBy}` : 'select * from pg_prepared_xacts';
  const shown = $('held').querySelector('.command pre')?.textContent;
  if (!held) $('held').querySelector('.command')?.remove();
  else if (shown !== query) {
    $('held').querySelector('.command')?.remove();
    $('held').append(command('Who that is', query));
  }
}

// A row stays the same element while its session lasts, so that a click or the focus on its button is not lost.
function sessions({ sessions, total }) {
  const old = new Map([...$('sessions').rows].map(row => [row.dataset.id, row]));
  const rows = sessions.map(s => {
    const row = old.get(String(s.id)) ?? sessionRow(s);
    old.delete(String(s.id));
    row.cells[2].textContent = s.cursor;
    row.cells[3].textContent = s.behind;
    return row;
  });
  for (const row of old.values()) row.remove();
  rows.forEach((row, i) => {
    const there = $('sessions').rows[i];
    if (there !== row) $('sessions').insertBefore(row, there ?? null);
  });
  show('sessions-note', total === 0 ? 'Nobody is connected.' : total > sessions.length ? `These are the furthest behind of ${total}.` : '');
}

function sessionRow(s) {
  const end = element('button', { type: 'button', textContent: 'End', ariaLabel: `End the session of ${s.consumer} since ${time(new Date(s.since))}` });
  end.addEventListener('click', async () => {
    try {
      const response = await fetch(`console/sessions/${s.id}`, { method: 'DELETE', signal: patience() });
      show('ended', response.ok ? `The session of ${s.consumer} was ended.` : `Not ended: ${(await refusal(response)).message}.`);
    } catch (error) {
      show('ended', `No answer, so it may be ended or not: ${error.message}`);
    }
  });
  const row = element('tr', {},
    element('td', { textContent: s.consumer }, element('small', { textContent: [s.transport, ...s.topics ?? []].join(', ') })),
    element('td', { textContent: time(new Date(s.since)) }), element('td'), element('td'), element('td', {}, end));
  row.dataset.id = s.id;
  return row;
}

// What to paste

function command(title, text) {
  const copy = element('button', { type: 'button', textContent: 'Copy', ariaLabel: `Copy: ${title}` });
  copy.addEventListener('click', async () => {
    let done = 'Copied';
    await navigator.clipboard.writeText(text).catch(() => { done = 'Select it to copy'; }); // not over plain HTTP to another machine
    copy.textContent = done;
    show('copied', done);
    setTimeout(() => { copy.textContent = 'Copy'; show('copied', ''); }, 1500);
  });
  return element('div', { className: 'command' }, element('h3', {}, title, copy), element('pre', { textContent: text }));
}

function refresh() {
  const a = ask();
  $('commands').replaceChildren(...commands(a, a.cursor, service.database).map(([title, text]) => command(title, text)));
}

refresh();
look();
