package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// links are the network between every pair that talks to each other, each a proxy that can be poisoned.
type links struct {
	server *toxiproxy.ApiServer
	all    map[string]*link
	names  []string // in the order in which they were made
}

// link is the way from one to another.
type link struct {
	name    string
	address string // where to connect to
	proxy   *toxiproxy.Proxy
}

func newLinks() *links {
	zerolog.SetGlobalLevel(zerolog.Disabled) // a toxic traces by a logger of its own
	return &links{
		server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()),
		all:    map[string]*link{},
	}
}

func (l *links) to(name, upstream string) (*link, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	k := &link{name: name, address: address, proxy: toxiproxy.NewProxy(l.server, name, address, upstream)}
	if err := k.proxy.Start(); err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	l.all[name] = k
	l.names = append(l.names, name)
	return k, nil
}

func (l *links) close() {
	for _, k := range l.all {
		k.proxy.Stop()
	}
}

// poison adds a toxic in one direction or in both.
func (k *link) poison(toxic string, directions []string, attributes map[string]any) error {
	for _, direction := range directions {
		encoded, err := json.Marshal(map[string]any{"type": toxic, "stream": direction, "attributes": attributes})
		if err != nil {
			return err
		}
		if _, err := k.proxy.Toxics.AddToxicJson(strings.NewReader(string(encoded))); err != nil {
			return fmt.Errorf("%s on %s: %w", toxic, k.name, err)
		}
	}
	return nil
}

// cut ends every connection and refuses new ones until heal.
func (k *link) cut() { k.proxy.Stop() }

// heal makes the link what it was.
func (k *link) heal(ctx context.Context) error {
	k.proxy.Toxics.ResetToxics(ctx)
	if k.proxy.Enabled {
		return nil
	}
	return k.proxy.Start()
}
