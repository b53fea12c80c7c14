import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import org.springframework.core.ParameterizedTypeReference;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.web.reactive.function.client.WebClient;
import reactor.core.publisher.Flux;
import reactor.util.retry.Retry;

/**
 * A service that works off events with Reactor's WebClient, beside <code>make run</code>:
 *
 * <pre>EVENT_PIPER_URL=http://localhost:4000/events CONSUMER=toto mvn --quiet --file examples/java compile exec:java</pre>
 *
 * Its cursor is in a file. It is written after the work is done: work that a crash interrupts is done again.
 */
class Service {
    static final String URL = System.getenv().getOrDefault("EVENT_PIPER_URL", "http://localhost:4000/events");
    static final String CONSUMER = System.getenv().getOrDefault("CONSUMER", "toto");
    static final Path CURSOR = Path.of(System.getenv().getOrDefault("CURSOR_FILE", "java.cursor"));
    static final Duration PAUSE = Duration.ofMillis(500);
    /** More than two heartbeats: a connection that is silent for longer is dead. */
    static final Duration SILENCE = Duration.ofSeconds(15);
    static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] args) {
        // An event of more than 256 KiB is refused unless this is raised.
        WebClient client = WebClient.builder().codecs(c -> c.defaultCodecs().maxInMemorySize(16 << 20)).build();
        ParameterizedTypeReference<ServerSentEvent<String>> type = new ParameterizedTypeReference<>() {};

        Flux<ServerSentEvent<String>> eventStream = Flux.defer(() -> client.get()
                .uri(URL)
                .header("X-Consumer-Id", CONSUMER)
                .header("Last-Event-Id", cursor())
                .retrieve()
                .bodyToFlux(type)
                .timeout(SILENCE)
                .filter(e -> !"heartbeat".equals(e.event())));

        eventStream
                .doOnNext(e -> {
                    handle(e);
                    save(e.id());
                })
                .doOnError(e -> System.err.println(e))
                .retryWhen(Retry.fixedDelay(Long.MAX_VALUE, PAUSE))
                .repeatWhen(ended -> ended.delayElements(PAUSE))
                .blockLast();
    }

    static void handle(ServerSentEvent<String> e) {
        switch (e.event()) {
            case "order.placed" -> System.out.println(e.id() + ": pack " + item(e));
            case "order.paid" -> System.out.println(e.id() + ": ship " + item(e));
            case "reset" -> System.err.println("events are missing: " + e.data());
            default -> { }
        }
    }

    static String item(ServerSentEvent<String> e) {
        try {
            return MAPPER.readTree(e.data()).get("item").asText();
        } catch (IOException invalid) {
            throw new UncheckedIOException(invalid);
        }
    }

    static String cursor() {
        try {
            return Files.exists(CURSOR) ? Files.readString(CURSOR) : "0";
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
    }

    static void save(String cursor) {
        try {
            Path next = Files.writeString(Path.of(CURSOR + ".new"), cursor);
            Files.move(next, CURSOR, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException full) {
            throw new UncheckedIOException(full);
        }
    }
}
