// Deletes instances from Java 11 or later, with JNA (net.java.dev.jna:jna) and libgreenapi.
//   GREENAPI_URL=... GREENAPI_TOKEN=... java -cp jna.jar Delete.java 1101000001 1101000002
// Exit status: 0 all are gone, 1 one or more were not deleted, 3 some may be gone (run it again).
import com.sun.jna.*;
import com.sun.jna.ptr.PointerByReference;
import java.util.*;
import java.util.concurrent.*;
public class Delete {
    @Structure.FieldOrder({"tag", "id", "status", "code", "httpStatus", "attempts", "message"})
    public static class Result extends Structure {
        public long tag, id;
        public int status, code, httpStatus, attempts;
        public byte[] message = new byte[224];
    }
    public interface GreenApi extends Library {
        int greenapi_client_new(String url, String token, Pointer o, PointerByReference c, Result r);
        int greenapi_client_delete_instance(Pointer client, long id, Result result);
        int greenapi_queue_new(PointerByReference queue);
        int greenapi_queue_submit(Pointer queue, Pointer client, long id, long tag);
        NativeLong greenapi_queue_take(Pointer queue, Result[] out, NativeLong room, int timeoutMs);
        String greenapi_status_message(int status);
        int greenapi_status_effect(int status);
    }
    static final String LIBRARY = System.getenv().getOrDefault("GREENAPI_LIBRARY", "greenapi");
    static final GreenApi c = Native.load(LIBRARY, GreenApi.class,
        Map.of(Library.OPTION_STRING_ENCODING, "UTF-8"));
    static class GreenApiException extends RuntimeException {
        final int status; // 10-29: nothing was deleted, 30-49: it may have been deleted
        GreenApiException(int status, String message) { super(message); this.status = status; }
    }
    static String check(int status, Result result) {
        String message = c.greenapi_status_message(status);
        if (result != null) message = Native.toString(result.message, "UTF-8");
        if (c.greenapi_status_effect(status) != 0) throw new GreenApiException(status, message);
        return message;
    }

    /** Deletes one instance. Returns the message, or throws unless it is certainly gone. */
    static String delete(Pointer client, long id) {
        Result result = new Result();
        return check(c.greenapi_client_delete_instance(client, id, result), result);
    }

    /** Deletes many instances. Returns a future for each id; one thread completes all of them. */
    static List<CompletableFuture<String>> deleteAll(Pointer client, Pointer queue, long[] ids) {
        List<CompletableFuture<String>> futures = new ArrayList<>();
        for (long id : ids) {
            check(c.greenapi_queue_submit(queue, client, id, futures.size()), null);
            futures.add(new CompletableFuture<>());
        }
        new Thread(() -> {
            Result[] out = (Result[]) new Result().toArray(64);
            NativeLong room = new NativeLong(out.length);
            for (long n; (n = c.greenapi_queue_take(queue, out, room, -1).longValue()) > 0;)
                for (int i = 0; i < n; i++)
                    try { futures.get((int) out[i].tag).complete(check(out[i].status, out[i])); }
                    catch (GreenApiException e) { futures.get((int) out[i].tag).completeExceptionally(e); }
        }).start();
        return futures;
    }

    public static void main(String[] arguments) throws InterruptedException {
        PointerByReference client = new PointerByReference(), queue = new PointerByReference();
        String url = System.getenv("GREENAPI_URL"), token = System.getenv("GREENAPI_TOKEN");
        Result problem = new Result(); // client and queue are used until the program ends
        check(c.greenapi_client_new(url, token, null, client, problem), problem);
        check(c.greenapi_queue_new(queue), null);
        long[] ids = Arrays.stream(arguments).mapToLong(Long::parseLong).toArray();
        int exit = 0;
        for (Future<String> future : ids.length == 1
                ? List.of(CompletableFuture.supplyAsync(() -> delete(client.getValue(), ids[0])))
                : deleteAll(client.getValue(), queue.getValue(), ids))
            try { System.out.println(future.get()); }
            catch (ExecutionException error) {
                System.out.println(error.getCause().getMessage());
                exit = Math.max(exit, ((GreenApiException) error.getCause()).status < 30 ? 1 : 3);
            }
        System.exit(exit);
    }
}
