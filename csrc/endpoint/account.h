/* SPDX-License-Identifier: MIT
 *
 * What waits in several outboxes together, and in the accounts below this one. Main's: no other process sees it.
 */
#ifndef LIPC_ACCOUNT_H
#define LIPC_ACCOUNT_H

#include "lensipc.h"

#include <stdatomic.h>
#include <stdbool.h>

struct lipc_account {
    uint64_t bytes; /* main's thread alone changes it */
    uint64_t limit;
    struct lipc_account *parent;
    _Atomic size_t users; /* its owner, the endpoints and the accounts that count in it: the last one frees it */
};

/* Main's thread. `more` bytes wait from now on and `fewer` no longer, here and in all parents. NULL: nowhere. */
static inline void lipc_account_count(struct lipc_account *account, uint64_t more, uint64_t fewer)
{
    for (; account; account = account->parent)
        account->bytes += more - fewer;
}

/* Main's thread. Whether the limit of this account, or of a parent, is met even without `except` bytes of what waits. */
static inline bool lipc_account_full(const struct lipc_account *account, uint64_t except)
{
    for (; account; account = account->parent)
        if (account->bytes - except >= account->limit)
            return true;
    return false;
}

/* Anyone. One user more. NULL is fine. */
void lipc_account_take(struct lipc_account *account);

#endif
