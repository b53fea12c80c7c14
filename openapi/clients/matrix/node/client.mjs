// Receives events with the library that the argument names, as its documentation shows it.
const url = process.env.EVENTS_URL;
const took = (type, data) => {
  if (type === 'order') console.log(`got ${JSON.parse(data).token}`);
  if (type === 'heartbeat') console.log('beat');
};
const listen = source => ['order', 'heartbeat'].forEach(type => source.addEventListener(type, e => took(type, e.data)));

const libraries = {
  eventsource2: async () => {
    const { default: EventSource } = await import('eventsource2');
    listen(new EventSource(url));
  },
  eventsource4: async () => {
    const { EventSource } = await import('eventsource4');
    listen(new EventSource(url));
  },
  'eventsource-client': async () => {
    const { createEventSource } = await import('eventsource-client');
    createEventSource({ url, onMessage: ({ event, data }) => took(event, data) });
  },
  'fetch-event-source': async () => {
    // It is made for browsers, and asks whether the page is visible.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = await import('@microsoft/fetch-event-source');
    fetchEventSource(url, {
      onmessage: ({ event, data }) => took(event, data),
      // By default it takes a stream that ends in good order for complete, and does not come back.
      onclose() { throw new Error('the stream ended'); },
    });
  },
};
await libraries[process.argv[2]]();
