/* Settings of a device, kept over power cuts: how often it was started, and a table of what it measured.
 *
 *     settings FILE [NAME VALUE]
 *
 * Counts a start; with NAME and VALUE sets a setting in the same commit; prints all settings. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvwasi.h"

static int fail(const char *what, kv_status status) {
    fprintf(stderr, "%s: %s\n", what, kvwasi_message(status));
    return 1;
}

static bool print(void *context, const void *key, size_t key_length, const void *value, size_t value_length) {
    (void)context;
    printf("%.*s = %.*s\n", (int)key_length, (const char *)key, (int)value_length, (const char *)value);
    return true;
}

/* One commit: the count of starts, and the setting if one is given. */
static kv_status start(kvwasi *store, uint32_t settings, const char *name, const char *value) {
    void *stored = NULL;
    size_t length;
    unsigned long starts = 0;
    kv_status status = kvwasi_begin(store);
    if (status != KV_OK) return status;
    status = kvwasi_get(store, 0, "starts", 6, &stored, &length);
    if (status == KV_OK) starts = strtoul(stored, NULL, 10);
    if (status == KV_NOT_FOUND) status = KV_OK;
    free(stored);
    char text[24];
    int digits = snprintf(text, sizeof text, "%lu", starts + 1);
    if (status == KV_OK) status = kvwasi_put(store, 0, "starts", 6, text, (size_t)digits);
    if (status == KV_OK && name != NULL) status = kvwasi_put(store, settings, name, strlen(name), value, strlen(value));
    if (status == KV_OK) return kvwasi_commit(store);
    (void)kvwasi_rollback(store);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: settings FILE [NAME VALUE]\n");
        return 2;
    }
    kvwasi *store;
    kv_status status = kvwasi_open(argv[1], KVWASI_CREATE, &store);
    if (status != KV_OK) return fail(argv[1], status);
    uint32_t settings;
    status = kvwasi_table(store, "settings", true, &settings);
    if (status == KV_OK) status = start(store, settings, argc == 4 ? argv[2] : NULL, argc == 4 ? argv[3] : NULL);
    if (status == KV_OK) status = kvwasi_each(store, 0, NULL, 0, NULL, 0, print, NULL);
    if (status == KV_OK) status = kvwasi_each(store, settings, NULL, 0, NULL, 0, print, NULL);
    kv_status closed = kvwasi_close(store);
    if (status != KV_OK) return fail(argv[1], status);
    return closed == KV_OK ? 0 : fail(argv[1], closed);
}
