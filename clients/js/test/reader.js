// The reader of the fault test (clients/faults): prints what the module hands out, a line of JSON each. In Node it
// starts at 0; a tab of browser.js starts at the position of its state. Events of these types are printed by the handler
// of their type, so that one that is not called is an event that is missing.
import { subscribe } from '../index.js';

const typed = ['order.created', 'error', 'constructor', '__proto__', 'close'];

export function read(url, reader, options) {
  const say = line => console.log(JSON.stringify({ reader, ...line }));
  const print = ({ id, type, payload }) => say({ id, type, token: payload.token });
  const subscription = subscribe(url, {
    onEvent: event => typed.includes(event.type) || print(event),
    on: Object.fromEntries(typed.map(type => [type, print])),
    onReset: reset => say({ reset }),
    onStatus: status => say({ status }),
    onError: error => console.error(String(error)),
    headers: () => ({ 'X-Reader': reader }),
    patience: 1500,
    silence: 2000,
    ...options,
  });
  subscription.done.catch(error => say({ failed: String(error) }));
  return { subscription, say };
}

if (globalThis.process) {
  const { say } = read(process.env.EVENT_PIPER_URL, process.env.READER, { after: 0 });
  say({ start: 0 });
}
