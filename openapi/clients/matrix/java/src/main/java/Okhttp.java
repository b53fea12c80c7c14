import java.net.URI;
import java.util.concurrent.TimeUnit;

import com.launchdarkly.eventsource.ConnectStrategy;
import com.launchdarkly.eventsource.ErrorStrategy;
import com.launchdarkly.eventsource.EventSource;

/** Receives events as okhttp-eventsource shows it, going on after every error. */
class Okhttp {
    public static void main(String[] args) throws Exception {
        ConnectStrategy connect = ConnectStrategy.http(URI.create(System.getenv("EVENTS_URL"))).readTimeout(5, TimeUnit.SECONDS);
        EventSource source = new EventSource.Builder(connect).errorStrategy(ErrorStrategy.alwaysContinue()).build();
        for (var message : source.messages()) {
            Output.took(message.getEventName(), message.getData());
        }
    }
}
