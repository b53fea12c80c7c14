// Client receives events with the library that the argument names, as its documentation shows it.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	r3labs "github.com/r3labs/sse/v2"
	"github.com/tmaxmax/go-sse"
)

func took(event string, data []byte) {
	if event == "heartbeat" {
		fmt.Println("beat")
		return
	}
	var payload struct{ Token string }
	if err := json.Unmarshal(data, &payload); err != nil {
		log.Printf("read %.100q: %v", data, err) // r3labs/sse hands on what it has of an event that was cut
		return
	}
	fmt.Println("got", payload.Token)
}

func main() {
	url := os.Getenv("EVENTS_URL")
	switch os.Args[1] {
	case "go-sse":
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			log.Fatal(err)
		}
		connection := sse.NewConnection(r)
		connection.Buffer(nil, 1<<20) // an event may be larger than the default, 64 KiB
		connection.SubscribeToAll(func(e sse.Event) { took(e.Type, []byte(e.Data)) })
		log.Fatal(connection.Connect())
	case "r3labs":
		client := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(1<<20))
		for { // it comes back from an error by itself, but not from a stream that ended in good order
			log.Print(client.SubscribeRaw(func(e *r3labs.Event) { took(string(e.Event), e.Data) }))
		}
	}
}
