/* SPDX-License-Identifier: MIT
 *
 * An account's users come and go in any thread: the last one frees it, and those above it that nobody else needs. What
 * counts in it, and what its limit does, is in outbox.c.
 */

#define _GNU_SOURCE

#include "../../csrc/endpoint/account.h"
#include "check.h"

#include <pthread.h>

#define THREADS 4
#define ROUNDS 2000

static struct lipc_account *given[THREADS];
static pthread_barrier_t all_are_here;

static void *let_go(void *number)
{
    struct lipc_account **own = &given[*(const int *)number];
    for (int round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&all_are_here);
        CHECK(!lipc_account_full(*own, 0)); /* a use of it that comes before the freeing, whoever does that */
        lipc_account_free(*own);
        (void)pthread_barrier_wait(&all_are_here);
    }
    return NULL;
}

/* The sanitizers tell a leak, a use after the freeing, and a race, which there is with a relaxed order. */
static void the_last_user_frees_it_whatever_thread_that_is_in(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    CHECK(pthread_barrier_init(&all_are_here, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, let_go, &numbers[i]) == 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct lipc_account *all = lipc_account_create(100, NULL), *one = lipc_account_create(50, all);
        CHECK(all && one);
        lipc_account_count(one, 70, 0);
        CHECK(lipc_account_full(one, 0) && !lipc_account_full(one, 21) && !lipc_account_full(all, 0));
        lipc_account_count(one, 0, 70);
        given[0] = all;
        for (int i = 1; i < THREADS; i++) {
            if (i > 1)
                lipc_account_retain(one);
            given[i] = one;
        }
        (void)pthread_barrier_wait(&all_are_here);
        (void)pthread_barrier_wait(&all_are_here);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_barrier_destroy(&all_are_here) == 0);
    lipc_account_free(NULL);
}

int main(void)
{
    RUN(the_last_user_frees_it_whatever_thread_that_is_in);
    return 0;
}
