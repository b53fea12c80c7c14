"""Tells schemathesis what the document cannot."""

import schemathesis

CURSORS = {"Last-Event-ID", "lastEventId", "last_event_id", "after"}


def texts(value):
    """What is sent for a value: a text for each of its items."""
    items = value if isinstance(value, list) else [value]
    # What becomes of an object in a URL is schemathesis's affair; often it is nothing.
    return ["" if item is None or isinstance(item, dict) else str(item) for item in items]


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what the service takes on purpose, though the document does not have it."""
    query, headers = case.query or {}, case.headers or {}
    cursors = [texts(value) for name, value in [*query.items(), *headers.items()] if name in CURSORS]
    if any(cursor[0].isdecimal() and int(cursor[0]) >= 2**63 for cursor in cursors if cursor):
        return False  # it is ahead of any event, hence of the newest
    if any(not values or "" in values for values in [*map(texts, query.values()), *cursors]):
        return False  # it stands for none: polyfills of EventSource send such cursors
    if "topics" in query:
        return False  # it must be granted, which the document cannot say
    if case.operation.path == "/events":
        # A browser that reconnects sends a newer cursor along with that of its URL, and a polyfill appends it there: the
        # others do not count. It may be given by more names than the document has, because generators take them for one.
        return len(cursors) <= 1 and all(len(cursor) == 1 for cursor in cursors) and not query.keys() & (CURSORS - {"after"})
    return True


@schemathesis.hook
def before_call(context, case, kwargs):
    """Lets a valid wait be none, as nobody inserts events. What is to be refused stays as it is."""
    if case.operation.path == "/events/poll":
        wait = texts(case.query.get("wait", 25))
        if len(wait) == 1 and wait[0].isdecimal() and int(wait[0]) <= 300:
            case.query["wait"] = 0
