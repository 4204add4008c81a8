/*
 * On a system without a CA store calls over TLS end in a status with a message, calls that need no
 * store work, and once there is a store all calls work.
 */
#include "guest.h"

int main(void)
{
    guest_begin(60);
    const char *https_url = guest_env("GREENAPI_HTTPS_URL");
    const char *ca_file = guest_env("GREENAPI_CA_FILE");
    setenv("SSL_CERT_FILE", "/nonexistent/ca.pem", 1);
    setenv("SSL_CERT_DIR", "/nonexistent", 1);
    guest_tell("POST", "/reset", "");

    for (int round = 0; round < 2; round++) {
        int code = -1;
        greenapi_status status =
            greenapi_delete_instance(https_url, guest_token(), GUEST_ID, &code);
        guest_check(status == GREENAPI_STATUS_TLS_FAILED && code == 0,
                    "the one call over TLS: %s, code %d", greenapi_status_name(status), code);
        guest_one_call();

        greenapi_client *client = NULL;
        greenapi_result result;
        greenapi_options options = guest_options();
        options.ca_file = NULL;
        options.max_retries = 0;
        status = greenapi_client_new(https_url, guest_token(), &options, &client, &result);
        if (status == GREENAPI_STATUS_OK)
            status = greenapi_client_delete_instance(client, GUEST_ID, &result);
        guest_check(status == GREENAPI_STATUS_TLS_FAILED && strlen(result.message) > 20,
                    "a client without ca_file: %s (%s)", greenapi_status_name(status),
                    result.message);
        printf("said: %s\n", result.message);
        greenapi_client_free(client);

        options.ca_file = ca_file;
        client = guest_client_of(https_url, &options);
        guest_client_call(client);
        greenapi_client_free(client);
    }
    return guest_passed("TLS_FAILED over TLS; plain HTTP and a client with its own ca_file work");
}
