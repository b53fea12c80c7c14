//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

var errNoNchan = errors.New("nginx with nchan is not installed (Debian: apt-get install nginx libnginx-mod-nchan)")

const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

// nchanConfig has a worker for each CPU, as Debian's own configuration has.
var nchanConfig = template.Must(template.New("nginx.conf").Parse(`
load_module {{.Module}};
daemon off;
user root;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {{.Dir}}/nginx.pid;
error_log stderr error;
events { worker_connections 19000; }
http {
    access_log off;
    client_body_temp_path {{.Dir}}/body;
    proxy_temp_path {{.Dir}}/proxy;
    fastcgi_temp_path {{.Dir}}/fastcgi;
    uwsgi_temp_path {{.Dir}}/uwsgi;
    scgi_temp_path {{.Dir}}/scgi;
    keepalive_requests 1000000000;
    nchan_max_reserved_memory 512M;
    server {
        listen {{.Address}} backlog=4096;
        location = / { return 204; }
        location = /pub { nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 1000; }
        location = /sub {
            nchan_subscriber eventsource; nchan_channel_id $arg_id; nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 10; nchan_eventsource_ping_event heartbeat; nchan_eventsource_ping_data thump;
        }
        location = /poll { nchan_subscriber longpoll; nchan_channel_id $arg_id; nchan_subscriber_first_message newest; }
    }
}
`))

// newNchan is a rig with nginx in the place of stream and its database.
func (b *bench) newNchan(ctx context.Context) (r *rig, err error) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errNoNchan
	}
	if _, err := os.Stat(nchanModule); err != nil {
		return nil, errNoNchan
	}
	address := freeAddress()
	var config bytes.Buffer
	err = nchanConfig.Execute(&config, struct{ Module, Dir, Address string }{nchanModule, b.dir, address})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(path, config.Bytes(), 0o600); err != nil {
		return nil, err
	}
	r = &rig{bench: b}
	r.write = func(ctx context.Context, o offer) (*offered, error) {
		return publish(ctx, "http://"+address+"/pub?id=", o)
	}
	cmd := exec.CommandContext(ctx, nginx, "-c", path, "-p", b.dir) //nolint:gosec // what was found on the machine
	if r.server, err = start(ctx, cmd, address, "/"); err != nil {
		return nil, err
	}
	if r.generator, err = startGenerator(ctx); err != nil {
		r.close(ctx)
		return nil, err
	}
	return r, nil
}

// besideNchan measures nchan as well, if the machine has it.
func (b *bench) besideNchan(ctx context.Context, measure func(*rig) error) error {
	r, err := b.newNchan(ctx)
	if errors.Is(err, errNoNchan) {
		b.note("for a comparison with nchan: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.close(ctx)
	return measure(r)
}

// publish posts what is offered, one event at a time, to the URL of its consumer's channel.
func publish(ctx context.Context, url string, o offer) (*offered, error) {
	return o.pace(ctx, func(context.Context) (put, func(), error) {
		transport := &http.Transport{}
		post := func(ctx context.Context, n int) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+o.Consumer(n), bytes.NewReader([]byte(payload())))
			if err != nil {
				return err
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode >= http.StatusMultipleChoices {
				return fmt.Errorf("nchan answers %s", response.Status)
			}
			_, err = io.Copy(io.Discard, response.Body)
			return err
		}
		return post, transport.CloseIdleConnections, nil
	})
}
