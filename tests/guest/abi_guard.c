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
#define FUNCTION(result, name, parameters)                                                         \
    do {                                                                                           \
        result(*pointer) parameters = name; /* does not compile when the prototype differs */      \
        printf("function %s %s%s\n", #result, pointer != NULL ? #name : "missing", #parameters);   \
    } while (0)

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

    FUNCTION(const char *, greenapi_status_name, (int32_t));
    FUNCTION(const char *, greenapi_status_message, (int32_t));
    FUNCTION(greenapi_effect, greenapi_status_effect, (int32_t));
    FUNCTION(const char *, greenapi_version, (void));
    FUNCTION(greenapi_status, greenapi_delete_instance,
             (const char *, const char *, int64_t, int *));
    FUNCTION(void, greenapi_options_init, (greenapi_options *, size_t));
    FUNCTION(greenapi_status, greenapi_client_new,
             (const char *, const char *, const greenapi_options *, greenapi_client **,
              greenapi_result *));
    FUNCTION(void, greenapi_client_free, (greenapi_client *));
    FUNCTION(greenapi_status, greenapi_client_delete_instance,
             (greenapi_client *, int64_t, greenapi_result *));
    FUNCTION(greenapi_status, greenapi_client_delete_instances,
             (greenapi_client *, const int64_t *, size_t, greenapi_result *,
              bool (*)(size_t, size_t, const greenapi_result *, void *), void *));
    FUNCTION(greenapi_status, greenapi_queue_new, (greenapi_queue **));
    FUNCTION(void, greenapi_queue_free, (greenapi_queue *));
    FUNCTION(int, greenapi_queue_fd, (const greenapi_queue *));
    FUNCTION(greenapi_status, greenapi_queue_submit,
             (greenapi_queue *, greenapi_client *, int64_t, uint64_t));
    FUNCTION(size_t, greenapi_queue_cancel, (greenapi_queue *, uint64_t));
    FUNCTION(size_t, greenapi_queue_take, (greenapi_queue *, greenapi_result *, size_t, int));
    FUNCTION(greenapi_status, greenapi_client_list_instances,
             (greenapi_client *, uint32_t, greenapi_list **, greenapi_result *));
    FUNCTION(size_t, greenapi_list_take, (greenapi_list *, greenapi_instance *, size_t, int));
    FUNCTION(int, greenapi_list_fd, (const greenapi_list *));
    FUNCTION(bool, greenapi_list_ended, (const greenapi_list *, greenapi_result *));
    FUNCTION(void, greenapi_list_free, (greenapi_list *));
    return 0;
}
