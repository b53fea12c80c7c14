# Varnish in front of event-piper: varnishd -F -a 127.0.0.1:8080 -f $PWD/examples/proxies/varnish.vcl
# X-Consumer-Id comes from the client here. A real gateway sets it.
vcl 4.1;

backend default {
  .host = "127.0.0.1";
  .port = "4000";
  .first_byte_timeout = 310s;    # the longest poll takes 300 s
  .between_bytes_timeout = 30s;  # a stream says something every 4 s
}

sub vcl_recv {
  if (req.http.Accept ~ "text/event-stream") {
    # Bytes go through as they come.
    return (pipe);
  }
  if (req.url ~ "^/events") {
    # A lookup would let the polls of different consumers wait for each other, since their URL is the same. Varnish does
    # not look after a client that waits: if it leaves, its poll goes on to the end of its wait.
    return (pass);
  }
}

sub vcl_pipe {
  # What else came on this connection would pass Varnish unseen.
  set bereq.http.Connection = "close";
}

sub vcl_backend_error {
  # An EventSource gives up for good at any status but 200. (A stream in a pipe ends with its connection instead, and is
  # asked for again.)
  set beresp.http.Retry-After = "5";
}
