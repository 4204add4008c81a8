<?php
// Deletes instances from PHP. Needs PHP 8.0 or later with its FFI extension, and libgreenapi.
//   GREENAPI_URL=... GREENAPI_TOKEN=... php delete.php 1101000001 1101000002
// Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be
// gone (running again is safe, and shows which). Ctrl-C cancels the rest.

$c = FFI::cdef('
    typedef struct { uint64_t tag; int64_t id; int32_t status, code, http_status;
                     uint32_t attempts; char message[224]; } greenapi_result;
    int greenapi_client_new(const char *, const char *, const void *, void **, greenapi_result *);
    void greenapi_client_free(void *);
    int greenapi_client_delete_instance(void *, int64_t, greenapi_result *);
    int greenapi_queue_new(void **);
    void greenapi_queue_free(void *);
    int greenapi_queue_fd(void *);
    int greenapi_queue_submit(void *, void *, int64_t, uint64_t);
    size_t greenapi_queue_cancel(void *, uint64_t);
    size_t greenapi_queue_take(void *, greenapi_result *, size_t, int);
    const char *greenapi_status_message(int32_t);
    int greenapi_status_effect(int32_t);', getenv('GREENAPI_LIBRARY') ?: 'libgreenapi.so.0');

/** The code is a greenapi_status: 10-29 nothing was deleted, 30-49 it may have been deleted. */
class GreenApiException extends RuntimeException {}

function check(FFI $c, int $status, ?FFI\CData $result = null): void
{
    if ($c->greenapi_status_effect($status) !== 0) {
        $message = $result ? FFI::string($result->message) : $c->greenapi_status_message($status);
        throw new GreenApiException($message, $status);
    }
}

function delete_instance(FFI $c, FFI\CData $client, int $id): string
{
    $result = $c->new('greenapi_result');
    check($c, $c->greenapi_client_delete_instance($client, $id, FFI::addr($result)), $result);
    return FFI::string($result->message);
}

/** Yields results as they come. An event loop (Revolt, ReactPHP) can watch the stream too. */
function delete_instances(FFI $c, FFI\CData $client, FFI\CData $queue, array $ids): Generator
{
    foreach ($ids as $id) {
        check($c, $c->greenapi_queue_submit($queue, $client, $id, 1));
    }
    $stream = fopen('php://fd/' . $c->greenapi_queue_fd($queue), 'r'); // only watched, never read
    $results = $c->new('greenapi_result[64]');
    for ($left = count($ids); $left > 0; $left -= $taken) {
        [$read, $write, $except] = [[$stream], null, null];
        @stream_select($read, $write, $except, null); // a signal ends this early, with a warning
        $taken = $c->greenapi_queue_take($queue, FFI::addr($results[0]), 64, 0);
        for ($i = 0; $i < $taken; $i++) {
            yield $results[$i];
        }
    }
}

[$url, $token] = [getenv('GREENAPI_URL') ?: null, getenv('GREENAPI_TOKEN') ?: null];
$ids = array_map(fn ($id) => filter_var($id, FILTER_VALIDATE_INT) ?: 0, array_slice($argv, 1));
[$client, $queue, $problem] = [$c->new('void *'), $c->new('void *'), $c->new('greenapi_result')];
try {
    $exit = 0;
    $status = $c->greenapi_client_new($url, $token, null, FFI::addr($client), FFI::addr($problem));
    check($c, $status, $problem);
    if (count($ids) === 1) {
        exit(delete_instance($c, $client, $ids[0]) . "\n");
    }
    check($c, $c->greenapi_queue_new(FFI::addr($queue)));
    if (function_exists('pcntl_signal') && pcntl_async_signals(true) !== null) {
        pcntl_signal(SIGINT, fn () => $c->greenapi_queue_cancel($queue, 1));
    }
    foreach (delete_instances($c, $client, $queue, $ids) as $result) {
        echo "$result->id: ", FFI::string($result->message), "\n";
        $exit = max($exit, [0, 1, 3][$c->greenapi_status_effect($result->status)]);
    }
} catch (GreenApiException $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    $exit = $error->getCode() >= 30 ? 3 : 1;
}
exit($exit);
