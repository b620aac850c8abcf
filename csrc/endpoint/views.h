/* SPDX-License-Identifier: MIT
 *
 * Views: blocks of main's slabs that a renderer reads in place, for as long as it likes. A view is what one block's hold
 * becomes. It may outlive the endpoint, and any thread may end it.
 */
#ifndef LIPC_VIEWS_H
#define LIPC_VIEWS_H

#include "endpoint/mapped_slabs.h"
#include "fast.h"

#include <pthread.h>

/* All views of one endpoint. */
struct lipc_views {
    struct lipc_views *before, *after; /* those of other endpoints */
    pthread_mutex_t lock;
    struct lipc_endpoint *endpoint; /* NULL once it is closed */
    struct lipc_view *first;        /* of those that are not freed */
    atomic_size_t users;            /* references: the endpoint, and each view */
    pid_t pid;                      /* of the process that they belong to */
    int pagemap;                    /* tells which pages have copies; -1: it cannot be read, or the endpoint is closed */
    int socket;                     /* a duplicate of the endpoint's: main takes nothing back before it is closed, too */
};

/* One block that is read in place. */
struct lipc_view {
    struct lipc_view *before, *after; /* other views of the same endpoint, under the lock of `views` */
    struct lipc_views *views;
    struct lipc_mapped_slab *slab;
    struct lipc_place place;
    bool ended;    /* the block is given back: its memory may change, but it stays mapped */
    bool detached; /* its pages are this process's own: main may do with the block what it likes */
    bool forks;    /* a forked child inherits its pages */
};

/* Called by receive.c in a renderer. Does not block. Returns whether this slab may be read in place. If not, there is no
 * memory for it. */
bool lipc_view_allowed(struct lipc_endpoint *endpoint, struct lipc_mapped_slab *slab);

/* Called by receive.c in a renderer. Does not block. Begins a view of `place`, which lies in `slab`, if that is allowed and
 * clean. Main is told that the event is heard. Returns NULL with -errno in *error. */
struct lipc_view *lipc_view_begin(struct lipc_endpoint *endpoint, struct lipc_mapped_slab *slab,
                                  const struct lipc_place *place, int *error);

/* Called by receive.c in a renderer. Does not block. Makes sure that a place is read as main has written it, though this
 * process has written to the pages. Returns 0 or -errno. */
int lipc_view_clean(const struct lipc_endpoint *endpoint, const struct lipc_mapped_slab *slab,
                    const struct lipc_place *place);

/* In receive.c. Called by module.c in a renderer, after lipc_recv has set *wanted. Does not block. Returns whether the
 * message lies in a block and is to be read there, so that lipc_take_view comes next in place of lipc_assemble; or -errno. */
int lipc_may_view(struct lipc_endpoint *endpoint);

/* In receive.c. Called by module.c in a renderer, when lipc_may_view has just allowed it. Does not block. Takes the message
 * as a view, with its record. Returns NULL with -errno in *error. */
struct lipc_view *lipc_take_view(struct lipc_endpoint *endpoint, struct lipc_record *record, int *error);

/* Called by module.c, in any thread. Does not block. Returns the memory of a view that has not ended. */
static inline char *lipc_view_memory(const struct lipc_view *view)
{
    return view->slab->memory + view->place.offset;
}

/* Called by module.c, in any thread, the collector's too. Blocks for moments, while another thread does the same. Gives
 * the block back to main, if the endpoint is still open. In a forked child it does nothing. Idempotent. */
void lipc_view_end(struct lipc_view *view);

/* Called by module.c, as lipc_view_end, when nobody has the view's memory any more. Ends the view and frees it. */
void lipc_view_free(struct lipc_view *view);

/* Called by receive.c and mapped_slabs.c in a renderer. Blocks for moments, while another thread ends a view. Tells main
 * that a hold has ended. The caller then wakes main if it is parked for space. Returns 0, or -EBADMSG if main has broken
 * the ring of returns. */
int lipc_return_hold(struct lipc_endpoint *endpoint, uint64_t hold);

/* Called by module.c before the endpoint is closed. Blocks as lipc_view_end. Makes what is viewed this process's own, so that
 * it neither changes nor goes away: the pages are copied, and a forked child inherits them. Before any fork this happens by
 * itself. */
void lipc_views_detach(struct lipc_endpoint *endpoint);

/* Called by lipc_endpoint_close. Blocks as lipc_view_end. From now on views that end return nothing. */
void lipc_views_leave(struct lipc_endpoint *endpoint);

/* Called by module.c in a forked child. Does not block. Closes what was inherited. */
void lipc_views_disown(struct lipc_endpoint *endpoint);

#endif
