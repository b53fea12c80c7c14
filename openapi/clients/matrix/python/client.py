"""Receives events with the library that the argument names. None of them reconnects by itself, so a loop does."""

import json
import os
import sys
import time

import httpx
import httpx_sse
import requests
import sseclient

URL = os.environ["EVENTS_URL"]
cursor, wait = "", 1.0


def took(event, data, id, retry):
    """Takes one event of a library. The cursor is taken from every event that has one, heartbeats too."""
    global cursor, wait
    if event == "order":
        print("got", json.loads(data)["token"], flush=True)
    if event == "heartbeat":
        print("beat", flush=True)
    if id:
        cursor = id
    if retry:
        wait = int(retry) / 1000


def headers():
    return {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})


def with_httpx():
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", URL, headers=headers()) as source:
        for e in source.iter_sse():
            took(e.event, e.data, e.id, e.retry)


def with_sseclient():
    with requests.get(URL, headers=headers(), stream=True, timeout=5) as answer:
        for e in sseclient.SSEClient(answer).events():
            took(e.event, e.data, e.id, e.retry)


def with_requests():
    """The way that its documentation reads a stream. An event counts when its empty line has come."""
    with requests.get(URL, headers=headers(), stream=True, timeout=5) as answer:
        fields = {}
        for line in answer.iter_lines(decode_unicode=True):
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                took(fields.get("event"), fields.get("data"), fields.get("id"), fields.get("retry"))
                fields = {}


receive = {"httpx-sse": with_httpx, "sseclient-py": with_sseclient, "requests": with_requests}[sys.argv[1]]
while True:
    try:
        receive()
    except (httpx.HTTPError, httpx_sse.SSEError, requests.RequestException) as error:
        print(repr(error), file=sys.stderr, flush=True)
    time.sleep(wait)
