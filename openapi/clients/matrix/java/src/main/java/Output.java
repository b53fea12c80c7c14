import com.fasterxml.jackson.databind.ObjectMapper;

class Output {
    private static final ObjectMapper JSON = new ObjectMapper();

    static void took(String type, String data) {
        if ("heartbeat".equals(type)) System.out.println("beat");
        if (!"order".equals(type)) return;
        try {
            System.out.println("got " + JSON.readTree(data).get("token").asText());
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
