package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/event-piper/event-piper/chaos/check"
)

// centrifugoTrigger publishes, in the transaction that inserts, to a channel that is called like the address. The data is
// bytes, because a jsonb refuses \u0000 and alters what it takes. The payload in it is a string, because Centrifugo takes
// the line ends out of JSON. History outlives any round.
const centrifugoTrigger = `create function chaos_centrifugo() returns trigger language plpgsql as $$ begin
	perform cf_binary_stream_publish(new.subscriber, convert_to(json_build_object('id', new.id, 'type', new.type, 'payload', new.payload::text)::text, 'UTF8'),
		p_history_ttl => '1 day', p_history_size => 10000000);
	return null;
end $$;
create trigger chaos_centrifugo after insert on events for each row execute function chaos_centrifugo()`

// centrifugoRows are the events with their offsets in their channels, which are Centrifugo's order.
const centrifugoRows = `select s.channel_offset, e.type, e.subscriber, e.payload::text, null::timestamptz from events e
	left join cf_binary_stream s on (convert_from(s.data, 'UTF8')::json ->> 'id')::bigint = e.id`

// startCentrifugo starts a server among the others, with the same faults. Its connections are called like ours, because
// faults end those by name.
func startCentrifugo(ctx context.Context, r *round) (string, error) {
	p, err := newProgram(r.world.dir, "centrifugo", r.centrifugo)
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(p.address)
	config, err := json.Marshal(map[string]any{
		"http_server": map[string]any{"address": host, "port": port},
		"broker": map[string]any{"enabled": true, "type": "postgres", "postgres": map[string]any{
			"dsn":         r.world.database.dsn(r.world.database.address()) + " application_name='event-piper beside centrifugo'",
			"binary_data": true, "use_notify": true,
		}},
		"channel": map[string]any{"without_namespace": map[string]any{"history_size": 10_000_000, "history_ttl": "24h", "force_recovery": true}},
		// Without a limit, recovery does not give up where much was missed.
		"client":      map[string]any{"insecure": true, "recovery_max_publication_limit": 0},
		"uni_sse":     map[string]any{"enabled": true},
		"health":      map[string]any{"enabled": true, "handler_prefix": p.health},
		"usage_stats": map[string]any{"disabled": true},
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.world.dir, "centrifugo.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return "", err
	}
	p.args = []string{"--config", file}
	r.world.programs = append(r.world.programs, p)
	if err := p.start(); err != nil {
		return "", err
	}
	base := "http://" + p.address
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return base, awaitUp(ctx, base)
}

// publication is an event as Centrifugo has it.
type publication struct {
	Offset int64
	Data   struct{ Type, Payload string }
}

// byCentrifugo recovers what came after the offset, and goes on live.
func (b *besideReader) byCentrifugo(ctx context.Context, s *check.Session) error {
	connect, err := json.Marshal(map[string]any{"subs": map[string]any{
		b.reader.address: map[string]any{"recover": true, "offset": b.reader.cursor, "epoch": b.epoch},
	}})
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/connection/uni_sse?cf_connect="+url.QueryEscape(string(connect)), nil)
	if err != nil {
		return err
	}
	response, err := b.reader.h1.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	in := bufio.NewReaderSize(response.Body, 64<<10)
	for !b.ended {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if data, found := bytes.CutPrefix(line, []byte("data: ")); found {
			if err := b.pushed(s, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// pushed takes the answer to the connect, with what was recovered, or a publication.
func (b *besideReader) pushed(s *check.Session, data []byte) error {
	var push struct {
		Pub     *publication
		Connect *struct {
			Subs map[string]struct {
				Publications []publication
				Offset       int64
				Epoch        string
				Recovered    bool
			}
		}
	}
	if err := json.Unmarshal(data, &push); err != nil {
		return err
	}
	if push.Pub != nil {
		return b.published(s, *push.Pub)
	}
	if push.Connect == nil {
		return nil
	}
	sub, subscribed := push.Connect.Subs[b.reader.address]
	if !subscribed {
		return fmt.Errorf("not subscribed: %s", data)
	}
	b.epoch = sub.Epoch
	if !sub.Recovered { // the client is told that it may have missed something
		b.got(s, check.Message{Kind: check.Reset, ID: sub.Offset, Reason: "not recovered"})
	}
	for _, p := range sub.Publications {
		if err := b.published(s, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *besideReader) published(s *check.Session, p publication) (err error) {
	m := check.Message{Kind: check.Delivery, ID: p.Offset, Type: p.Data.Type}
	if m.Token, m.Payload, err = identify([]byte(p.Data.Payload)); err != nil {
		return err
	}
	b.got(s, m)
	return nil
}
