package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// Format says in which form a reader gets events.
type Format uint8

const (
	// FormatPayload is the payload alone.
	FormatPayload Format = iota
	// FormatEvent is an object that tells all of an event, see [AppendEvent].
	FormatEvent
	// FormatCloudEvent is a CloudEvent, see [AppendCloudEvent].
	FormatCloudEvent

	// Formats is how many there are.
	Formats
)

// ParseFormat reads the name of a format; "" is FormatPayload.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "", "payload":
		return FormatPayload, nil
	case "event":
		return FormatEvent, nil
	case "cloudevents":
		return FormatCloudEvent, nil
	}
	return 0, errors.New("is none of payload, event, cloudevents")
}

// AppendEvent appends an event as a JSON object. The payload goes through as it is: encoding/json would read it
// again, and refuse one that is nested more deeply than it likes.
func AppendEvent(b []byte, e *Event) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `,"type":`...)
	b = appendString(b, e.Type)
	b = append(b, `,"timestamp":"`...)
	b = e.Timestamp.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","subscriber":`...)
	b = appendString(b, e.Consumer)
	if e.Amends != 0 {
		b = append(b, `,"amends":`...)
		b = strconv.AppendInt(b, e.Amends, 10)
	}
	if e.Traceparent != "" {
		b = append(b, `,"traceparent":`...)
		b = appendString(b, e.Traceparent)
	}
	b = append(b, `,"payload":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}

// AppendCloudEvent appends an event as a CloudEvent in the JSON format (CloudEvents 1.0.2, JSON Event Format,
// section 3). The source and the id, which is the position, name it together. The integers of CloudEvents have
// 32 bits, so amends is a string.
func AppendCloudEvent(b []byte, e *Event, source string) []byte {
	b = append(b, `{"specversion":"1.0","id":"`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `","source":`...)
	b = appendString(b, source)
	b = append(b, `,"type":`...)
	b = appendString(b, e.Type)
	b = append(b, `,"subject":`...)
	b = appendString(b, e.Consumer)
	b = append(b, `,"time":"`...)
	b = e.Timestamp.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if e.Amends != 0 {
		b = append(b, `,"amends":"`...)
		b = strconv.AppendInt(b, e.Amends, 10)
		b = append(b, '"')
	}
	if e.Traceparent != "" {
		b = append(b, `,"traceparent":`...)
		b = appendString(b, e.Traceparent)
	}
	b = append(b, `,"datacontenttype":"application/json","data":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}

// appendString appends a JSON string (RFC 8259, section 7).
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always encodes
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// IsTraceparent reports whether a text has the form of version 00 of W3C Trace Context, section 3.2.2, which later
// versions only add to.
func IsTraceparent(s []byte) bool {
	if len(s) < 55 || len(s) > 55 && s[55] != '-' || len(s) > MaxNameLength {
		return false
	}
	for i, c := range s {
		switch {
		case i == 2 || i == 35 || i == 52:
			if c != '-' {
				return false
			}
		case i >= 55:
			if c < ' ' || c > '~' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	zero := func(s []byte) bool { return len(bytes.Trim(s, "0")) == 0 }
	return string(s[:2]) != "ff" && (string(s[:2]) != "00" || len(s) == 55) && !zero(s[3:35]) && !zero(s[36:52])
}

// View says what a reader gets of the events that it asks for.
type View struct {
	// Format is how it gets them.
	Format Format
	// Current leaves out of history the events that a later event of the same address amends.
	Current bool
}

// ParseView reads the name of a view; "" is all events.
func ParseView(name string) (current bool, err error) {
	switch name {
	case "", "all":
		return false, nil
	case "current":
		return true, nil
	}
	return false, errors.New("is neither all nor current")
}
