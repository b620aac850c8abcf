/* SPDX-License-Identifier: MIT
 *
 * Blocks that are read in place.
 *
 * Views end in any thread, in a pass of the collector, after the endpoint was closed, and in a forked child. So what they
 * need is in `lipc_views`, which lives as long as the last of them. Its lock is held for moments, and no Python code runs
 * meanwhile. A forked child ends no view, and unmaps nothing, because it has inherited only part of the memory.
 *
 * Main takes all blocks back once a renderer has hung up, and a collector may close its socket before it frees the endpoint.
 * So views have a duplicate of the socket, which is closed when what is viewed is this process's own.
 *
 * What is viewed is made this process's own right before a fork, in the C library's handler, and not in a hook of Python:
 * between that and the fork other threads may run, and begin views. The handler holds all locks until the fork is done. It
 * allocates nothing, because other handlers may have locked the heap.
 *
 * The pages are mapped writable, and privately. Code that ignores that an array is read-only thus writes to a copy of the
 * page. Main's next event in the same block would not be seen there, so before a block is read the copies are dropped:
 * lipc_view_clean. To look for them takes 3 to 20 us for 1 MiB, the more the colder the cache is. To drop all pages in any
 * case would take 20, and to map them again 47. So it is done only where pages may have copies: each copy takes a page
 * fault, and the kernel counts those of all threads of a process, which takes 0.2 us to ask. A page that was found clean is
 * clean as long as that count stays the same. Not seen is what is written without a fault of this process's
 * threads: by another process, as a debugger is, or a vfork'ed child, or by userfaultfd. And the kernel counts a fault some
 * microseconds after it has made the copy: a thread that writes while its view has ended already, and main writes the next
 * event there, may leave that event with an old page. By a look alone that happens too, but more seldom: whoever writes
 * what it has given back has no promise.
 *
 *   label  access                     pairs with  what it orders
 *   V1     subtract  release, acquire V1          all other users' accesses come before the last user frees the views
 */
#define _GNU_SOURCE /* for MADV_DONTFORK, MADV_DOFORK */

#include "endpoint/views.h"

#include "endpoint/endpoint.h"
#include "ring/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Bits of an entry of /proc/self/pagemap. */
#define PRESENT (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define SHARED (UINT64_C(1) << 61) /* a page of a file. A private copy is none. */

#define ENTRIES 512

/* All views of this process, for its next fork. This lock is taken before that of any of them. */
static struct {
    pthread_mutex_t lock;
    struct lipc_views *first;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t watching = PTHREAD_ONCE_INIT;
static int not_watching; /* why forks are not watched: an error's number; 0: they are */

static bool is_inherited(const struct lipc_views *views)
{
    return views->pid != getpid();
}

static void close_if_open(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void release(struct lipc_views *views)
{
    /* V1 release, acquire: pairs with V1. */
    if (atomic_fetch_sub_explicit(&views->users, 1, memory_order_acq_rel) != 1)
        return;
    (void)pthread_mutex_lock(&all.lock);
    *(views->before ? &views->before->after : &all.first) = views->after;
    if (views->after)
        views->after->before = views->before;
    (void)pthread_mutex_unlock(&all.lock);
    (void)pthread_mutex_destroy(&views->lock);
    free(views);
}

/* Gives the whole pages that a place lies on. */
static char *pages_of(const struct lipc_mapped_slab *slab, const struct lipc_place *place, uint64_t *size)
{
    uint64_t page = lipc_page_size();
    uint64_t begin = place->offset / page * page, end = (place->offset + place->size + page - 1) / page * page;
    *size = (end < slab->size ? end : slab->size) - begin;
    return slab->memory + begin;
}

/* Drops the copies of pages, if there are any. Returns 0 or -errno. */
static int drop_copies(char *memory, uint64_t size)
{
    if (madvise(memory, size, MADV_DONTNEED) == 0)
        return 0;
    /* The process has locked its memory. */
    return munlock(memory, size) < 0 || madvise(memory, size, MADV_DONTNEED) < 0 ? -errno : 0;
}

/* Drops the copies among as many pages as one read of the pagemap tells of. Returns 0 or -errno. */
static int clean_some(int pagemap, char *memory, uint64_t pages, uint64_t page)
{
    uint64_t entries[ENTRIES];
    ssize_t wanted = (ssize_t)(pages * sizeof *entries);
    off_t at = (off_t)((uint64_t)(uintptr_t)memory / page * sizeof *entries);
    if (pread(pagemap, entries, (size_t)wanted, at) != wanted)
        return drop_copies(memory, pages * page);
    int error = 0;
    for (uint64_t i = 0; i < pages && !error; i++)
        if (entries[i] & (PRESENT | SWAPPED) && !(entries[i] & SHARED))
            error = drop_copies(memory + i * page, page);
    return error;
}

/* Returns how many page faults the threads of this process have had. */
static uint64_t count_faults(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* these arguments are right */
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

/* Returns whether the kernel counts page faults: a sandbox's may not. */
static bool counts_faults(void)
{
    uint64_t before = count_faults(), page = lipc_page_size();
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    *(volatile char *)memory = 1;
    (void)munmap(memory, page);
    return count_faults() > before;
}

/* Returns whether these pages were found clean when this process had had as many faults as now. */
static bool still_clean(const uint64_t *clean, uint64_t pages, uint64_t faults)
{
    uint64_t differ = 0;
    for (uint64_t i = 0; i < pages; i++)
        differ |= clean[i] ^ faults;
    return differ == 0;
}

int lipc_view_clean(const struct lipc_endpoint *endpoint, const struct lipc_mapped_slab *slab,
                    const struct lipc_place *place)
{
    if (!slab->writable)
        return 0;
    uint64_t size, page = lipc_page_size();
    char *memory = pages_of(slab, place, &size);
    uint64_t pages = (size + page - 1) / page;
    int pagemap = endpoint->views->pagemap, error = 0;
    if (pagemap < 0)
        return drop_copies(memory, size);
    uint64_t *clean = slab->clean ? slab->clean + (uint64_t)(memory - slab->memory) / page : NULL;
    uint64_t faults = clean ? count_faults() : 0; /* before the pages are looked at: what is written later counts later */
    if (clean && still_clean(clean, pages, faults))
        return 0;
    for (uint64_t done = 0; done < pages && !error; done += ENTRIES)
        error = clean_some(pagemap, memory + done * page, pages - done < ENTRIES ? pages - done : ENTRIES, page);
    for (uint64_t i = 0; clean && i < pages && !error; i++)
        clean[i] = faults;
    return error;
}

/* Returns a descriptor of the pagemap, or -1 if it does not tell even of a page that is this process's own. */
static int open_pagemap(void)
{
    uint64_t entry = PRESENT; /* it lies on such a page, as soon as it is written */
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)((uint64_t)(uintptr_t)&entry / lipc_page_size() * sizeof entry);
    if (fd >= 0 && pread(fd, &entry, sizeof entry, at) == sizeof entry && entry & PRESENT && !(entry & SHARED))
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* Has the kernel make copies of pages, by writing what is there. Other threads may read meanwhile: TSan is not to tell. */
__attribute__((no_sanitize("thread"))) static void copy_pages(char *memory, uint64_t size)
{
    uint64_t page = lipc_page_size();
    for (uint64_t at = 0; at < size; at += page) {
        volatile char *byte = memory + at;
        *byte = *byte;
    }
}

/* Makes all views this process's own, and has a forked child inherit their memory: that of views that have ended, too,
 * because something may show it all the same. The caller has the lock. */
static void detach(const struct lipc_views *views)
{
    for (struct lipc_view *view = views->first; view; view = view->after) {
        uint64_t size;
        char *memory = pages_of(view->slab, &view->place, &size);
        if (!view->ended && !view->detached) {
            copy_pages(memory, size);
            view->detached = true;
        }
        (void)madvise(memory, size, MADV_DOFORK); /* each time: another view of these pages may have undone it */
        view->forks = true;
    }
}

static void before_fork(void)
{
    (void)pthread_mutex_lock(&all.lock);
    for (struct lipc_views *views = all.first; views; views = views->after) {
        (void)pthread_mutex_lock(&views->lock);
        if (!is_inherited(views))
            detach(views);
    }
}

static void after_fork(void)
{
    for (struct lipc_views *views = all.first; views; views = views->after)
        (void)pthread_mutex_unlock(&views->lock);
    (void)pthread_mutex_unlock(&all.lock);
}

static void watch_forks(void)
{
    not_watching = pthread_atfork(before_fork, after_fork, after_fork);
}

static struct lipc_views *create(struct lipc_endpoint *endpoint)
{
    if (pthread_once(&watching, watch_forks) || not_watching)
        return NULL;
    struct lipc_views *views = calloc(1, sizeof *views);
    if (!views)
        return NULL;
    views->socket = endpoint->socket < 0 ? -1 : fcntl(endpoint->socket, F_DUPFD_CLOEXEC, 0);
    if ((endpoint->socket >= 0 && views->socket < 0) || pthread_mutex_init(&views->lock, NULL)) {
        close_if_open(&views->socket);
        free(views);
        return NULL;
    }
    views->endpoint = endpoint;
    atomic_init(&views->users, 1);
    views->pid = getpid();
    views->pagemap = open_pagemap();
    (void)pthread_mutex_lock(&all.lock);
    views->after = all.first;
    if (views->after)
        views->after->before = views;
    all.first = views;
    (void)pthread_mutex_unlock(&all.lock);
    return views;
}

bool lipc_view_allowed(struct lipc_endpoint *endpoint, struct lipc_mapped_slab *slab)
{
    if (!endpoint->views)
        endpoint->views = create(endpoint);
    if (endpoint->views && !slab->writable) {
        slab->writable = mprotect(slab->memory, slab->size, PROT_READ | PROT_WRITE) == 0;
        if (slab->writable && counts_faults()) /* without memory for it, all pages are looked at each time */
            slab->clean = calloc((slab->size + lipc_page_size() - 1) / lipc_page_size(), sizeof *slab->clean);
    }
    return endpoint->views && slab->writable;
}

struct lipc_view *lipc_view_begin(struct lipc_endpoint *endpoint, struct lipc_mapped_slab *slab,
                                  const struct lipc_place *place, int *error)
{
    struct lipc_views *views = endpoint->views;
    struct lipc_view *view = malloc(sizeof *view);
    if (!view) {
        *error = -ENOMEM;
        return NULL;
    }
    *view = (struct lipc_view){.views = views, .slab = slab, .place = *place};
    (void)pthread_mutex_lock(&views->lock);
    *error = lipc_tell_hold(endpoint, place->hold, LIPC_VIEWED);
    if (*error == 0) {
        view->after = views->first;
        if (view->after)
            view->after->before = view;
        views->first = view;
    }
    (void)pthread_mutex_unlock(&views->lock);
    if (*error) {
        free(view);
        return NULL;
    }
    atomic_fetch_add_explicit(&views->users, 1, memory_order_relaxed); /* relaxed: the endpoint is a user */
    lipc_mapped_slab_retain(slab);
    return view;
}

void lipc_view_end(struct lipc_view *view)
{
    struct lipc_views *views = view->views;
    if (is_inherited(views))
        return;
    (void)pthread_mutex_lock(&views->lock);
    if (!view->ended) {
        view->ended = true;
        if (view->detached) { /* before the block can be used again */
            uint64_t size;
            char *memory = pages_of(view->slab, &view->place, &size);
            (void)drop_copies(memory, size);
        }
        if (views->endpoint) {
            (void)lipc_tell_hold(views->endpoint, view->place.hold, LIPC_RETURN); /* an error is met by the next one */
            lipc_wakeup_wake(&views->endpoint->wakeup, LIPC_PARKED_FOR_SPACE);
        }
    }
    (void)pthread_mutex_unlock(&views->lock);
}

void lipc_view_free(struct lipc_view *view)
{
    struct lipc_views *views = view->views;
    if (is_inherited(views))
        return;
    lipc_view_end(view);
    (void)pthread_mutex_lock(&views->lock);
    *(view->before ? &view->before->after : &views->first) = view->after;
    if (view->after)
        view->after->before = view->before;
    if (view->forks) {
        uint64_t size;
        char *memory = pages_of(view->slab, &view->place, &size);
        (void)madvise(memory, size, MADV_DONTFORK);
    }
    (void)pthread_mutex_unlock(&views->lock);
    lipc_mapped_slab_release(view->slab);
    release(views);
    free(view);
}

int lipc_return_hold(struct lipc_endpoint *endpoint, uint64_t hold)
{
    struct lipc_views *views = endpoint->views;
    if (views)
        (void)pthread_mutex_lock(&views->lock);
    int told = lipc_tell_hold(endpoint, hold, LIPC_RETURN);
    if (views)
        (void)pthread_mutex_unlock(&views->lock);
    return told;
}

void lipc_views_detach(struct lipc_endpoint *endpoint)
{
    struct lipc_views *views = endpoint->views;
    if (!views || is_inherited(views))
        return;
    (void)pthread_mutex_lock(&views->lock);
    detach(views);
    (void)pthread_mutex_unlock(&views->lock);
}

void lipc_views_leave(struct lipc_endpoint *endpoint)
{
    struct lipc_views *views = endpoint->views;
    if (!views)
        return;
    lipc_views_detach(endpoint);
    (void)pthread_mutex_lock(&views->lock);
    views->endpoint = NULL;
    close_if_open(&views->pagemap);
    close_if_open(&views->socket);
    (void)pthread_mutex_unlock(&views->lock);
    endpoint->views = NULL;
    release(views);
}

void lipc_views_disown(struct lipc_endpoint *endpoint)
{
    if (endpoint->views && is_inherited(endpoint->views)) {
        close_if_open(&endpoint->views->pagemap);
        close_if_open(&endpoint->views->socket);
    }
}

void lipc_set_socket(struct lipc_endpoint *endpoint, int fd)
{
    endpoint->socket = fd;
}

void lipc_view_channel(struct lipc_endpoint *endpoint, uint32_t number, int views)
{
    if (number < endpoint->incoming_count)
        endpoint->incoming[number].views = views != 0;
}
