/* The little that the native unit tests share. A test file defines its tests and lists them in main(). */
#ifndef KV_TEST_H
#define KV_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                                       \
    do {                                                                                                    \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected);                         \
        if (actual_ != expected_) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #actual, actual_,     \
                    expected_);                                                                             \
            exit(1);                                                                                        \
        }                                                                                                   \
    } while (0)

#define RUN(test)                                \
    do {                                         \
        fprintf(stderr, "  %s\n", #test);        \
        test();                                  \
    } while (0)

/* xorshift64*: the same numbers everywhere. */
static inline uint64_t test_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

#endif
