/*
 * libcurl: warm (an easy handle per thread, kept alive), bulk (the multi interface), truth.
 * As https://curl.se/libcurl/c/http-post.html and multi-app.html show it: a transfer succeeded if
 * it ended with CURLE_OK, and otherwise curl_easy_strerror describes the error. CURLOPT_FAILONERROR
 * makes libcurl report an HTTP status of 400 or more as an error.
 */
#include "measure.h"

#include <curl/curl.h>

struct transfer {
    CURL *easy;
    struct curl_slist *headers;
    char url[512], request[64], answer[4096];
    size_t answer_length;
};

static void check(bool right, const char *what)
{
    if (!right) {
        fprintf(stderr, "%s failed\n", what);
        exit(1);
    }
}

static size_t receive(char *bytes, size_t one, size_t count, void *argument)
{
    struct transfer *transfer = argument;
    if (transfer->answer_length + count >= sizeof transfer->answer)
        return 0; /* makes the transfer fail */
    memcpy(transfer->answer + transfer->answer_length, bytes, count);
    transfer->answer_length += count;
    transfer->answer[transfer->answer_length] = '\0';
    return one * count;
}

static void *open_transfer(const struct plan *plan)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    check(transfer != NULL && (transfer->easy = curl_easy_init()) != NULL, "curl_easy_init");
    snprintf(transfer->url, sizeof transfer->url, "%s/partner/deleteInstanceAccount/%s", plan->url,
             plan->token);
    transfer->headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL,
                     1L); /* threads: https://curl.se/libcurl/c/threadsafe.html */
    if (getenv("SSL_CERT_FILE") != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
    return transfer;
}

static void close_transfer(void *own)
{
    struct transfer *transfer = own;
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    free(transfer);
}

static void prepare(struct transfer *transfer, int64_t id)
{
    int length =
        snprintf(transfer->request, sizeof transfer->request, "{\"idInstance\":%" PRId64 "}", id);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE, (long)length);
    transfer->answer_length = 0;
    transfer->answer[0] = '\0';
}

static bool call(void *own, int64_t id)
{
    struct transfer *transfer = own;
    prepare(transfer, id);
    return curl_easy_perform(transfer->easy) == CURLE_OK;
}

static void bulk_multi(const struct plan *plan)
{
    CURLM *multi = curl_multi_init();
    struct transfer **transfers = calloc(plan->concurrency, sizeof *transfers);
    check(multi != NULL && transfers != NULL, "curl_multi_init");
    size_t started = 0, done = 0, failed = 0;
    for (size_t i = 0; i < plan->concurrency; i++)
        transfers[i] = open_transfer(plan);

    struct sample before = sample();
    for (size_t i = 0; i < plan->concurrency && started < plan->calls; i++) {
        prepare(transfers[i], plan->first_id + (int64_t)started++);
        check(curl_multi_add_handle(multi, transfers[i]->easy) == CURLM_OK,
              "curl_multi_add_handle");
    }
    while (done < plan->calls) {
        int running, left;
        check(curl_multi_perform(multi, &running) == CURLM_OK, "curl_multi_perform");
        CURLMsg *message;
        while ((message = curl_multi_info_read(multi, &left)) != NULL) {
            struct transfer *transfer;
            CURL *easy = message->easy_handle;
            failed += message->data.result != CURLE_OK;
            done++;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
            curl_multi_remove_handle(multi, easy);
            if (started < plan->calls) {
                prepare(transfer, plan->first_id + (int64_t)started++);
                check(curl_multi_add_handle(multi, easy) == CURLM_OK, "curl_multi_add_handle");
            }
        }
        if (done < plan->calls)
            check(curl_multi_poll(multi, NULL, 0, 1000, NULL) == CURLM_OK, "curl_multi_poll");
    }
    print_figures(plan->calls, failed, before, sample(), 0);

    for (size_t i = 0; i < plan->concurrency; i++) {
        curl_multi_remove_handle(multi, transfers[i]->easy);
        close_transfer(transfers[i]);
    }
    free(transfers);
    curl_multi_cleanup(multi);
}

static void truth(const struct plan *plan)
{
    struct transfer *transfer = open_transfer(plan);
    for (size_t i = 0; i < plan->calls; i++) {
        int64_t id = plan->first_id + (int64_t)i;
        prepare(transfer, id);
        CURLcode code = curl_easy_perform(transfer->easy);
        bool flag = strstr(transfer->answer, "\"deleteInstanceAccount\":true") != NULL;
        print_word(id, code == CURLE_OK ? "deleted" : "failed",
                   code == CURLE_OK && flag ? "deleted" : "failed", curl_easy_strerror(code));
    }
    close_transfer(transfer);
}

int main(int argc, char **argv)
{
    struct plan plan = plan_of(argc, argv);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (strcmp(plan.way, "warm") == 0) {
        measure_warm(plan, open_transfer, close_transfer, call);
    } else if (strcmp(plan.way, "bulk") == 0) {
        bulk_multi(&plan);
    } else if (strcmp(plan.way, "truth") == 0) {
        truth(&plan);
    } else {
        fprintf(stderr, "no way \"%s\" in this program\n", plan.way);
        return 2;
    }
    curl_global_cleanup();
}
