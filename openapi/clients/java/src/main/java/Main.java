import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import eventpiper.ApiClient;
import eventpiper.Event;
import eventpiper.EventBatch;
import eventpiper.EventsApi;
import eventpiper.Problem;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.springframework.core.ParameterizedTypeReference;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.http.codec.json.Jackson2JsonDecoder;
import org.springframework.web.reactive.function.client.WebClient;
import org.springframework.web.reactive.function.client.WebClientResponseException;
import reactor.core.publisher.Flux;

/**
 * Uses the client that openapi-generator generates, and Reactor's WebClient as the README shows it, against a
 * running service. ../run.sh says what it finds in its environment.
 */
public class Main {
    static final String URL = System.getenv("EVENT_PIPER_URL");
    static final String CONSUMER = System.getenv("CONSUMER");
    static final String EXACT = "{\"z\":123456789012345678901234567890,\"a\":0.1000000000000000055511151231257827,\"m\":1.50}";
    /** Longer than a poll or a heartbeat takes. */
    static final Duration PATIENCE = Duration.ofMinutes(1);

    /** Jackson makes doubles of decimals unless it is asked not to; integers of any size are exact. */
    static final ObjectMapper MAPPER = ApiClient.createDefaultMapper(ApiClient.createDefaultDateFormat())
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .enable(JsonGenerator.Feature.WRITE_BIGDECIMAL_AS_PLAIN);

    public static void main(String[] args) throws Exception {
        EventsApi api = as(CONSUMER);
        EventBatch start = poll(api, null, 0L, null, null);

        CompletableFuture<EventBatch> polling = api.pollEvents(start.getCursor(), null, null, null, null, null, null).toFuture();
        insert("order.created", EXACT);
        EventBatch waited = polling.get();
        equal(types(waited), List.of("order.created"), "a waiting poll");
        equal(waited.getCursor(), waited.getEvents().get(0).getId(), "cursor");
        equal(MAPPER.writeValueAsString(waited.getEvents().get(0).getPayload()), EXACT, "payload");

        insert("order.noted", "{}");
        insert("order.paid", "{}");
        EventBatch filtered = poll(api, waited.getCursor(), null, null, List.of("order.paid", "order.refunded"));
        equal(types(filtered), List.of("order.paid"), "types");

        List<String> paged = new ArrayList<>();
        EventBatch page = start;
        do {
            page = poll(api, page.getCursor(), null, 1L, null);
            paged.addAll(types(page));
        } while (page.getMore());
        equal(paged, List.of("order.created", "order.noted", "order.paid"), "page by page");

        stream(start.getCursor());
        problems(api);
        System.out.println("polled, filtered and streamed with WebClient; numbers exact as BigDecimal; 401, 410 and 422 typed");
    }

    /** What was missed, and then an event inserted while the stream is open. */
    static void stream(Long cursor) {
        WebClient client = WebClient.create(URL);
        ParameterizedTypeReference<ServerSentEvent<String>> type = new ParameterizedTypeReference<>() {};

        Flux<ServerSentEvent<String>> eventStream = client.get()
                .uri("/events")
                .header("X-Consumer-Id", CONSUMER)
                .header("Last-Event-Id", cursor.toString())
                .retrieve()
                .bodyToFlux(type);

        List<ServerSentEvent<String>> streamed = eventStream
                .filter(e -> !"heartbeat".equals(e.event()))
                .doOnNext(e -> {
                    if ("order.paid".equals(e.event())) insert("order.shipped", "{}");
                })
                .take(4)
                .collectList()
                .block(PATIENCE);
        equal(streamed.stream().map(ServerSentEvent::event).toList(),
                List.of("order.created", "order.noted", "order.paid", "order.shipped"), "stream");
        equal(streamed.get(0).data(), EXACT, "data");
    }

    static void problems(EventsApi api) {
        problem(as(null), 401, null, null);

        equal(problem(api, 410, 1L << 48, null).getReason(), Problem.ReasonEnum.AHEAD, "reason");

        Problem pruned = problem(as("pruned"), 410, 0L, null);
        equal(pruned.getReason(), Problem.ReasonEnum.PRUNED, "reason");
        equal(types(poll(as("pruned"), pruned.getOldest(), null, null, null)), List.of("kept"), "from oldest");

        equal(problem(api, 422, null, 301L).getErrors().get(0).getLocation(), "query.wait", "location");
    }

    static Problem problem(EventsApi api, int status, Long after, Long wait) {
        try {
            throw new AssertionError(status + " was expected, not " + poll(api, after, wait, null, null));
        } catch (WebClientResponseException e) {
            Problem problem = e.getResponseBodyAs(Problem.class);
            equal(e.getStatusCode().value(), status, "status");
            equal(problem.getStatus(), (long) status, "status of the problem");
            return problem;
        }
    }

    static EventsApi as(String consumer) {
        // The WebClient that ApiClient makes decodes application/json alone, and problems are another type.
        WebClient web = WebClient.builder()
                .codecs(c -> c.defaultCodecs().jackson2JsonDecoder(new Jackson2JsonDecoder(MAPPER)))
                .build();
        ApiClient client = new ApiClient(web).setBasePath(URL);
        if (consumer != null) client.addDefaultHeader("X-Consumer-Id", consumer);
        return new EventsApi(client);
    }

    static EventBatch poll(EventsApi api, Long after, Long wait, Long limit, List<String> types) {
        return api.pollEvents(after, wait, limit, types, null, null, null).block(PATIENCE);
    }

    static List<String> types(EventBatch batch) {
        return batch.getEvents().stream().map(Event::getType).toList();
    }

    static void insert(String type, String payload) {
        try {
            int status = new ProcessBuilder(System.getenv("INSERT"), CONSUMER, type, payload).inheritIO().start().waitFor();
            equal(status, 0, "exit status of insert");
        } catch (Exception e) {
            throw new IllegalStateException("insert", e);
        }
    }

    static void equal(Object got, Object want, String what) {
        if (!want.equals(got)) throw new AssertionError(what + ": got " + got + ", want " + want);
    }
}
