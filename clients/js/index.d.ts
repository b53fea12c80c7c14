/** A row of the table `events`. */
export interface Event<Payload = any> {
  /** Its position: ids only rise. */
  id: number;
  type: string;
  payload: Payload;
  /** RFC 3339. This and what follows is there with `format: 'event'` only. */
  timestamp?: string;
  /** The address the event is for: the consumer, or a topic that it follows. */
  subscriber?: string;
  /** The id of the earlier event that this one amends, if it does. */
  amends?: number;
  /** The W3C Trace Context in which the event was inserted, if it was in one. */
  traceparent?: string;
}

/** The stream could not go on from the cursor without a gap. */
export interface Reset {
  /**
   * `pruned`: retention has deleted events after the cursor. `ahead`: the cursor is beyond the newest event, so the
   * database is an older one. `oversized`: an event is larger than the service delivers. Others may be added.
   */
  reason: 'pruned' | 'ahead' | 'oversized' | (string & {});
  oldest: number;
  newest: number;
  /** Where the subscription goes on. */
  cursor: number;
}

/** A request that failed and is repeated. */
export interface RequestError extends Error {
  /** The HTTP status, if there was an answer. */
  status?: number;
}

export type Status =
  /** Events arrive as they happen. */
  | 'streaming'
  /** No stream gets through: events arrive by long-polling. A stream is tried again from time to time. */
  | 'polling'
  /** The service was not reached and will be tried again. */
  | 'waiting'
  /** Another tab has the connection and passes on what it receives. */
  | 'following';

/** What `localStorage` and `sessionStorage` are. Both methods may return a promise. */
export interface CursorStorage {
  getItem(key: string): string | null | undefined | Promise<string | null | undefined>;
  setItem(key: string, value: string): unknown;
}

export interface Options {
  /**
   * Takes every event, of whatever type, before the handler in `on`. A promise is awaited before the next event. What a
   * handler throws ends the subscription, before the cursor has passed the event: `done` is rejected with it.
   */
  onEvent?(event: Event): unknown;
  /** Handlers by type. Every name is possible: `error`, `open`, `message` are types like others here. */
  on?: { [type: string]: (event: Event) => unknown };
  /** Without this and without `getState`, a reset ends the subscription: `done` is rejected. */
  onReset?(reset: Reset): unknown;
  onStatus?(status: Status): unknown;
  /** Takes why a request failed. It is repeated unless this throws. Absent: `console.warn`. */
  onError?(error: RequestError): unknown;

  /** Events tell their `timestamp`, `subscriber`, `amends` and `traceparent`, too. */
  format?: 'event';

  /** The cursor to start after; 0 is the beginning. Absent: events from now on. */
  after?: number;
  /** Keeps the cursor, which wins over `after`. It is written after the handlers of an event are done. */
  storage?: CursorStorage;
  /** The cursor's name in `storage`. Absent: one made of the URL. */
  key?: string;
  /**
   * Fetches the application's own state, at the start and after a reset. The position is found before: every event up to
   * it is in the state, and all events after it are delivered. `storage` and `after` do not matter then.
   */
  getState?(position: number): unknown;

  /** Returns headers, such as one with a token. It is called before each request. */
  headers?(): Record<string, string> | Promise<Record<string, string>>;
  /** Further options of each `fetch`, such as `{ credentials: 'include' }`. */
  request?: RequestInit;
  /**
   * Lets the tabs of a browser share one connection: those that name the same URL, `format` and string, which must
   * therefore name the user. Ignored where there are no Web Locks (Node, pages over plain HTTP).
   */
  share?: string;
  /** Ends the subscription. */
  signal?: AbortSignal;

  /** Parses JSON. Absent: `JSON.parse`, which rounds numbers beyond 2^53. */
  parse?(text: string): any;
  /** Milliseconds for a stream's first frame or a poll's headers. Then a stream does not get through. Absent: 5000. */
  patience?: number;
  /** Milliseconds without a byte after which a stream counts as lost; the service sends one every 4 s. Absent: 15000. */
  silence?: number;
  /** The most milliseconds between two attempts. Absent: 30000. */
  longestWait?: number;
}

export interface Subscription {
  /** The last event that was handled, or the position beyond it up to which there was none. */
  readonly cursor: number | undefined;
  /** Ends the subscription. No handler is called afterwards. */
  close(): void;
  /** Resolves when the subscription has been closed, and rejects when a handler or a reset has ended it. */
  readonly done: Promise<void>;
}

/** Receives the events of the service at `url`, which ends in `/events` and may have `types` in its query. */
export function subscribe(url: string | URL, options?: Options): Subscription;
