// What to paste to do by hand what the page does.

const shell = text => `'${text.replaceAll("'", `'\\''`)}'`;
const sql = text => `'${text.replaceAll("'", "''")}'`;

/** commands returns title and text of each for what is asked, at a cursor, over a database that psql reaches. */
export function commands(ask, cursor, database) {
  const url = new URL('events', location.href);
  for (const name of ['topics', 'types']) if (ask[name]) url.searchParams.set(name, ask[name]);
  if (ask.format !== 'payload') url.searchParams.set('format', ask.format);
  const headers = [ask.token ? 'Authorization: Bearer …' : `X-Consumer-Id: ${ask.consumer}`];
  if (ask.topics && !ask.token) headers.push(`X-Consumer-Topics: ${ask.topics}`);
  if (cursor) headers.push(`Last-Event-ID: ${cursor}`);
  const insert = `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), ${sql(ask.consumer)}, '{"foo": "bar"}')`;
  const quoted = insert.replace(/[\\"$`]/g, '\\$&');
  const resumed = new URL(url);
  if (cursor) resumed.searchParams.set('after', cursor);
  return [
    ['curl', `curl -N ${shell(url.href)}${headers.map(h => ` \\\n  -H ${shell(h)}`).join('')}`],
    ['psql', `psql ${database ? shell(database) : '"$DATABASE_URL"'} \\\n  -c "${quoted}"`],
    ['JavaScript', '// behind a gateway that says who the consumer is\n' +
      `const events = new EventSource(${JSON.stringify(resumed.href)});\n` +
      'events.addEventListener("insert", e =>\n  console.log(e.lastEventId, e.data));'],
  ];
}
