// Calls a SOAP service through the gateway of this host: java Lookup.java NUMBER
// Factors a number by the demo's service Primes. Java 11 or newer; nothing to install.
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Lookup {
    static final String GATEWAY = System.getenv().getOrDefault("BDSERVER_GATEWAY", "http://127.0.0.1:9080");
    static final String CALL = "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>"
            + "<Factors xmlns=\"urn:bdserver:demo:Primes\"><number>%s</number></Factors></soap:Body></soap:Envelope>";

    // HttpClient follows no redirection unless told so: where the call goes is shown, and the POST is made there.
    static final HttpClient client = HttpClient.newHttpClient();

    /** The host that takes this call: the Location of the gateway's 307. */
    static URI whereis(String service) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(GATEWAY + "/" + service)).build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 307) {
            throw new IOException(answer.body().strip());
        }
        return URI.create(answer.headers().firstValue("Location").orElseThrow());
    }

    static HttpResponse<String> call(URI url, String body) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(url)
                .header("Content-Type", "text/xml; charset=utf-8")
                .header("SOAPAction", "")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
        return client.send(request, HttpResponse.BodyHandlers.ofString());
    }

    public static void main(String[] arguments) throws InterruptedException {
        try {
            URI url = whereis("Primes");
            HttpResponse<String> answer = call(url, String.format(CALL, arguments[0]));
            Matcher factors = Pattern.compile("<(?:\\w+:)?factors>([^<]*)<").matcher(answer.body());
            if (!factors.find()) {
                throw new IOException(answer.body());
            }
            System.out.println(factors.group(1) + ", by " + url.getAuthority());
        } catch (IOException error) {
            System.err.println("Lookup.java: " + error.getMessage());
            System.exit(1);
        }
    }
}
