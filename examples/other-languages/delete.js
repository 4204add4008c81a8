// Deletes instances from Node.js without blocking its event loop. Needs koffi and libgreenapi.
//
//   npm install koffi
//   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... node delete.js 1101000001 1101000002
//
// Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be
// gone (running again is safe, and shows which). Ctrl-C cancels the rest.
const { promisify } = require('node:util');
const koffi = require('koffi');

const library = koffi.load(process.env.GREENAPI_LIBRARY || 'libgreenapi.so.0');
koffi.opaque('greenapi_client');
koffi.opaque('greenapi_queue');
const Result = koffi.struct('greenapi_result', {
  tag: 'uint64_t', id: 'int64_t', status: 'int32_t', code: 'int32_t', httpStatus: 'int32_t',
  attempts: 'uint32_t', message: koffi.array('char', 224, 'String'),
});
const c = {};
for (const prototype of [
  'int greenapi_client_new(const char *url, const char *token, const void *options,'
    + ' _Out_ greenapi_client **client, _Out_ greenapi_result *error)',
  'void greenapi_client_free(greenapi_client *client)',
  'int greenapi_client_delete_instance(greenapi_client *client, int64_t id,'
    + ' _Out_ greenapi_result *result)',
  'int greenapi_queue_new(_Out_ greenapi_queue **queue)',
  'void greenapi_queue_free(greenapi_queue *queue)',
  'int greenapi_queue_submit(greenapi_queue *q, greenapi_client *c, int64_t id, uint64_t tag)',
  'size_t greenapi_queue_cancel(greenapi_queue *queue, uint64_t tag)',
  'size_t greenapi_queue_take(greenapi_queue *queue, void *out, size_t capacity, int timeout_ms)',
  'const char *greenapi_status_message(int32_t status)',
  'int greenapi_status_effect(int32_t status)',
]) c[/greenapi_(\w+)\(/.exec(prototype)[1]] = library.func(prototype);

class GreenApiError extends Error {
  constructor({ id, status, code, message = c.status_message(status) }) {
    super(message);
    Object.assign(this, { id, status, code, effect: c.status_effect(status) }); // 2: unknown
  }
}
function check(status, result = { status }) {
  if (c.status_effect(status) !== 0) throw new GreenApiError(result);
}

async function deleteInstance(client, id) {
  const result = {};
  check(await promisify(c.client_delete_instance.async)(client, id, result), result);
  return result;
}

// Deletes many instances; one thread of koffi's pool waits for all of them.
async function* deleteInstances(client, ids, signal) {
  const out = [null], buffer = Buffer.alloc(64 * koffi.sizeof(Result));
  check(c.queue_new(out));
  const [queue] = out, stop = () => c.queue_cancel(queue, 1);
  signal?.addEventListener('abort', stop);
  try {
    for (const id of ids) check(c.queue_submit(queue, client, id, 1));
    for (let n; (n = await promisify(c.queue_take.async)(queue, buffer, 64, -1)) > 0;)
      for (let i = 0; i < n; i++) yield koffi.decode(buffer, i * koffi.sizeof(Result), Result);
  } finally {
    signal?.removeEventListener('abort', stop);
    c.queue_free(queue);
  }
}

async function main(ids) {
  const { GREENAPI_URL: url = null, GREENAPI_TOKEN: token = null } = process.env;
  const out = [null], problem = {}, interrupted = new AbortController();
  check(c.client_new(url, token, null, out, problem), problem);
  process.once('SIGINT', () => interrupted.abort());
  if (ids.length === 1) return console.log((await deleteInstance(out[0], ids[0])).message);
  for await (const result of deleteInstances(out[0], ids, interrupted.signal)) {
    console.log(`${result.id}: ${result.message}`);
    process.exitCode = Math.max(process.exitCode ?? 0, [0, 1, 3][c.status_effect(result.status)]);
  }
}
main(process.argv.slice(2).map((id) => (/^\d+$/.test(id) ? Number(id) : 0))).catch((error) => {
  console.error(error.message);
  process.exitCode = error.effect === 2 ? 3 : 1;
});
