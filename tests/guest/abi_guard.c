/*
 * Prints the binary interface as the header and this compiler see it: every enumerator and
 * constant with its value, every structure with its size, alignment and members. The output is
 * compared with abi_guard.txt; it needs no environment and no server.
 */
#include <greenapi.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdio.h>

#define VALUE(name) printf("value %s %" PRId64 "\n", #name, (int64_t)(name))
#define TYPE(name) printf("type %s size %zu align %zu\n", #name, sizeof(name), alignof(name))
#define MEMBER(type, member)                                                                       \
    printf("member %s.%s offset %zu size %zu\n", #type, #member, offsetof(type, member),           \
           sizeof(((type *)0)->member))
#define FUNCTION(name, type)                                                                       \
    do {                                                                                           \
        type *pointer = name; /* does not compile when the prototype is another one */             \
        printf("function %s %s\n", #name, pointer != NULL ? #type : "is missing");                 \
    } while (0)

/* The prototypes of the contract, written down a second time. */
typedef const char *text_of_status(int32_t);
typedef greenapi_effect effect_of_status(int32_t);
typedef const char *version(void);
typedef greenapi_status delete_instance(const char *, const char *, int64_t, int *);
typedef void options_init(greenapi_options *, size_t);
typedef greenapi_status client_new(const char *, const char *, const greenapi_options *,
                                   greenapi_client **, greenapi_result *);
typedef void client_free(greenapi_client *);
typedef greenapi_status client_delete_instance(greenapi_client *, int64_t, greenapi_result *);
typedef bool progress(size_t, size_t, const greenapi_result *, void *);
typedef greenapi_status client_delete_instances(greenapi_client *, const int64_t *, size_t,
                                                greenapi_result *, progress *, void *);
typedef greenapi_status queue_new(greenapi_queue **);
typedef void queue_free(greenapi_queue *);
typedef int queue_fd(const greenapi_queue *);
typedef greenapi_status queue_submit(greenapi_queue *, greenapi_client *, int64_t, uint64_t);
typedef size_t queue_cancel(greenapi_queue *, uint64_t);
typedef size_t queue_take(greenapi_queue *, greenapi_result *, size_t, int);
typedef greenapi_status client_list_instances(greenapi_client *, uint32_t, greenapi_list **,
                                              greenapi_result *);
typedef size_t list_take(greenapi_list *, greenapi_instance *, size_t, int);
typedef int list_fd(const greenapi_list *);
typedef bool list_ended(const greenapi_list *, greenapi_result *);
typedef void list_free(greenapi_list *);

int main(void)
{
    VALUE(GREENAPI_STATUS_OK);
    VALUE(GREENAPI_STATUS_GONE);
    VALUE(GREENAPI_STATUS_NOT_FOUND);
    VALUE(GREENAPI_STATUS_UNAUTHORIZED);
    VALUE(GREENAPI_STATUS_FORBIDDEN);
    VALUE(GREENAPI_STATUS_RATE_LIMITED);
    VALUE(GREENAPI_STATUS_REJECTED);
    VALUE(GREENAPI_STATUS_SESSION_ACTIVE);
    VALUE(GREENAPI_STATUS_SESSION_UNKNOWN);
    VALUE(GREENAPI_STATUS_INVALID_ARGUMENT);
    VALUE(GREENAPI_STATUS_CONNECT_FAILED);
    VALUE(GREENAPI_STATUS_TLS_FAILED);
    VALUE(GREENAPI_STATUS_CANCELLED);
    VALUE(GREENAPI_STATUS_OUT_OF_RESOURCES);
    VALUE(GREENAPI_STATUS_UNPROCESSED);
    VALUE(GREENAPI_STATUS_NOT_STARTED);
    VALUE(GREENAPI_STATUS_TIMEOUT);
    VALUE(GREENAPI_STATUS_CONNECTION_LOST);
    VALUE(GREENAPI_STATUS_SERVER_ERROR);
    VALUE(GREENAPI_STATUS_BAD_RESPONSE);
    VALUE(GREENAPI_STATUS_CANCELLED_IN_FLIGHT);
    VALUE(GREENAPI_STATUS_INTERNAL);
    VALUE(GREENAPI_EFFECT_DELETED);
    VALUE(GREENAPI_EFFECT_NOT_DELETED);
    VALUE(GREENAPI_EFFECT_UNKNOWN);
    VALUE(GREENAPI_SESSION_IGNORE);
    VALUE(GREENAPI_SESSION_REQUIRE_LOGGED_OUT);
    VALUE(GREENAPI_SESSION_LOG_OUT);
    VALUE(GREENAPI_SESSION_TRY_LOG_OUT);
    VALUE(GREENAPI_FLAG_ALLOW_HTTP);
    VALUE(GREENAPI_LIST_STATES);
    VALUE(GREENAPI_INSTANCE_DELETED);
    VALUE(GREENAPI_INSTANCE_EXPIRED);
    VALUE(GREENAPI_INSTANCE_FREE);
    VALUE(GREENAPI_INSTANCE_PARTNER);
    VALUE(GREENAPI_STATE_NOT_ASKED);
    VALUE(GREENAPI_STATE_NOT_AUTHORIZED);
    VALUE(GREENAPI_STATE_AUTHORIZED);
    VALUE(GREENAPI_STATE_BLOCKED);
    VALUE(GREENAPI_STATE_SLEEP_MODE);
    VALUE(GREENAPI_STATE_STARTING);
    VALUE(GREENAPI_STATE_YELLOW_CARD);
    VALUE(GREENAPI_STATE_SUSPENDED);
    VALUE(GREENAPI_STATE_PENDING_PASSWORD);
    VALUE(GREENAPI_STATE_EXPIRED);
    VALUE(GREENAPI_STATE_CREATING);
    VALUE(GREENAPI_STATE_OTHER);
    VALUE(GREENAPI_STATE_UNKNOWN);

    TYPE(greenapi_status);
    TYPE(greenapi_effect);
    TYPE(greenapi_state);

    TYPE(struct greenapi_result);
    MEMBER(greenapi_result, tag);
    MEMBER(greenapi_result, id);
    MEMBER(greenapi_result, status);
    MEMBER(greenapi_result, code);
    MEMBER(greenapi_result, http_status);
    MEMBER(greenapi_result, attempts);
    MEMBER(greenapi_result, message);

    TYPE(struct greenapi_options);
    MEMBER(greenapi_options, size);
    MEMBER(greenapi_options, timeout_ms);
    MEMBER(greenapi_options, connect_timeout_ms);
    MEMBER(greenapi_options, max_retries);
    MEMBER(greenapi_options, max_in_flight);
    MEMBER(greenapi_options, requests_per_second);
    MEMBER(greenapi_options, session);
    MEMBER(greenapi_options, flags);
    MEMBER(greenapi_options, ca_file);
    MEMBER(greenapi_options, proxy);
    MEMBER(greenapi_options, user_agent);
    MEMBER(greenapi_options, ca_pem);
    MEMBER(greenapi_options, instance_url);
    MEMBER(greenapi_options, journal);

    TYPE(struct greenapi_instance);
    MEMBER(greenapi_instance, id);
    MEMBER(greenapi_instance, created);
    MEMBER(greenapi_instance, deleted);
    MEMBER(greenapi_instance, expires);
    MEMBER(greenapi_instance, flags);
    MEMBER(greenapi_instance, state);
    MEMBER(greenapi_instance, type);
    MEMBER(greenapi_instance, tariff);
    MEMBER(greenapi_instance, name);

    FUNCTION(greenapi_status_name, text_of_status);
    FUNCTION(greenapi_status_message, text_of_status);
    FUNCTION(greenapi_status_effect, effect_of_status);
    FUNCTION(greenapi_version, version);
    FUNCTION(greenapi_delete_instance, delete_instance);
    FUNCTION(greenapi_options_init, options_init);
    FUNCTION(greenapi_client_new, client_new);
    FUNCTION(greenapi_client_free, client_free);
    FUNCTION(greenapi_client_delete_instance, client_delete_instance);
    FUNCTION(greenapi_client_delete_instances, client_delete_instances);
    FUNCTION(greenapi_queue_new, queue_new);
    FUNCTION(greenapi_queue_free, queue_free);
    FUNCTION(greenapi_queue_fd, queue_fd);
    FUNCTION(greenapi_queue_submit, queue_submit);
    FUNCTION(greenapi_queue_cancel, queue_cancel);
    FUNCTION(greenapi_queue_take, queue_take);
    FUNCTION(greenapi_client_list_instances, client_list_instances);
    FUNCTION(greenapi_list_take, list_take);
    FUNCTION(greenapi_list_fd, list_fd);
    FUNCTION(greenapi_list_ended, list_ended);
    FUNCTION(greenapi_list_free, list_free);
    return 0;
}
