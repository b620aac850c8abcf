/* SPDX-License-Identifier: MIT
 *
 * How an account is made and freed. The owner of an account may free it in any thread, and before the endpoints that
 * use it are closed. So an account counts its users.
 *
 *   label  access                     pairs with  what it orders
 *   A1     subtract  release, acquire A1          all other users' accesses come before the last user frees the account
 */
#include "endpoint/account.h"

#include <stdlib.h>

struct lipc_account *lipc_account_create(uint64_t limit, struct lipc_account *parent)
{
    struct lipc_account *account = calloc(1, sizeof *account);
    if (!account)
        return NULL;
    account->limit = limit;
    account->parent = parent;
    atomic_init(&account->users, 1);
    lipc_account_retain(parent);
    return account;
}

void lipc_account_retain(struct lipc_account *account)
{
    if (account)
        atomic_fetch_add_explicit(&account->users, 1, memory_order_relaxed); /* relaxed: the caller is or has a user */
}

void lipc_account_free(struct lipc_account *account)
{
    /* A1 release, acquire: pairs with A1. */
    while (account && atomic_fetch_sub_explicit(&account->users, 1, memory_order_acq_rel) == 1) {
        struct lipc_account *parent = account->parent;
        free(account);
        account = parent;
    }
}

uint64_t lipc_account_bytes(const struct lipc_account *account)
{
    return account->bytes;
}
