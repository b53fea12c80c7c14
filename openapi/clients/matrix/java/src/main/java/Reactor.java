import java.time.Duration;
import java.util.concurrent.atomic.AtomicReference;

import org.springframework.core.ParameterizedTypeReference;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.web.reactive.function.client.WebClient;
import reactor.core.publisher.Flux;
import reactor.util.retry.Retry;

/** Receives events as the README shows it, and asks again after the last id whenever the stream ends. */
class Reactor {
    public static void main(String[] args) {
        AtomicReference<String> cursor = new AtomicReference<>();
        WebClient client = WebClient.builder().codecs(c -> c.defaultCodecs().maxInMemorySize(1 << 20)).build();
        ParameterizedTypeReference<ServerSentEvent<String>> type = new ParameterizedTypeReference<>() {};
        Flux.defer(() -> client.get()
                .uri(System.getenv("EVENTS_URL"))
                .headers(h -> { if (cursor.get() != null) h.set("Last-Event-ID", cursor.get()); })
                .retrieve()
                .bodyToFlux(type))
            .doOnNext(e -> {
                Output.took(e.event(), e.data());
                if (e.id() != null) cursor.set(e.id());
            })
            .doOnError(e -> System.err.println(e))
            .retryWhen(Retry.fixedDelay(Long.MAX_VALUE, Duration.ofMillis(500)))
            .repeatWhen(ended -> ended.delayElements(Duration.ofMillis(500)))
            .blockLast();
    }
}
