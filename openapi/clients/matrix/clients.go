package main

// client is a program that receives events and prints "got" and the token of each, and "beat" for a heartbeat.
type client struct {
	name, title string
	command     []string // below WORK
}

var clients = []client{
	{"chromium", "Chromium, EventSource", []string{"node", "node/chromium.mjs"}},
	{"eventsource2", "npm eventsource 2", []string{"node", "node/client.mjs", "eventsource2"}},
	{"eventsource4", "npm eventsource 4", []string{"node", "node/client.mjs", "eventsource4"}},
	{"fetch-event-source", "npm @microsoft/fetch-event-source", []string{"node", "node/client.mjs", "fetch-event-source"}},
	{"eventsource-client", "npm eventsource-client", []string{"node", "node/client.mjs", "eventsource-client"}},
	{"reactor", "Java, Spring WebClient", []string{"java", "@java/arguments", "Reactor"}},
	{"okhttp", "Java, okhttp-eventsource", []string{"java", "@java/arguments", "Okhttp"}},
	{"httpx-sse", "Python, httpx-sse", []string{"python/venv/bin/python", "python/client.py", "httpx-sse"}},
	{"sseclient-py", "Python, requests and sseclient-py", []string{"python/venv/bin/python", "python/client.py", "sseclient-py"}},
	{"requests", "Python, requests alone (iter_lines)", []string{"python/venv/bin/python", "python/client.py", "requests"}},
	{"go-sse", "Go, tmaxmax/go-sse", []string{"go/client", "go-sse"}},
	{"r3labs", "Go, r3labs/sse", []string{"go/client", "r3labs"}},
	{"curl", "curl in a loop", []string{"bash", "curl.sh"}},
}

// known are the losses that are a client's own fault, by scenario: what is wrong with it.
var known = map[string]map[string]string{}
