/* SPDX-License-Identifier: MIT
 *
 * No memory, no descriptors, no space: each allocation and each system call of the core fails in turn, while another
 * pair goes on. The linker puts the functions below in the place of the C library's (--wrap).
 */

#define _GNU_SOURCE

#include "../../csrc/endpoint/mapped_slabs.h"
#include "../../csrc/endpoint/slabs.h"
#include "../../csrc/endpoint/views.h"
#include "../../csrc/fast.h"
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CAPACITY 65536
#define NO_LIMIT (UINT64_MAX / 2)

static bool failing;   /* whether calls are counted */
static int calls_left; /* until the one that fails */
static int calls, allocations_alive;

static bool fails(int error)
{
    if (!failing)
        return false;
    calls++;
    if (calls_left-- != 0)
        return false;
    errno = error;
    return true;
}

/* clang-format off */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
long __real_syscall(long number, ...);
int __real_shm_open(const char *name, int flags, mode_t mode);
int __real_ftruncate(int fd, off_t size);
int __real_posix_fallocate(int fd, off_t offset, off_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_madvise(void *at, size_t size, int advice);
int __real_mprotect(void *at, size_t size, int protection);
int __real_fcntl(int fd, int command, ...);
int __real_fstat(int fd, struct stat *file);
int __real_timerfd_create(int clock, int flags);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
long __wrap_syscall(long number, const void *a, unsigned long b, unsigned long c);
int __wrap_shm_open(const char *name, int flags, mode_t mode);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_posix_fallocate(int fd, off_t offset, off_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_mprotect(void *at, size_t size, int protection);
int __wrap_fcntl(int fd, int command, long argument);
int __wrap_fstat(int fd, struct stat *file);
int __wrap_timerfd_create(int clock, int flags);

static void *counted(void *memory) { allocations_alive += memory != NULL; return memory; }
void *__wrap_malloc(size_t size) { return fails(ENOMEM) ? NULL : counted(__real_malloc(size)); }
void *__wrap_calloc(size_t count, size_t size) { return fails(ENOMEM) ? NULL : counted(__real_calloc(count, size)); }
void *__wrap_realloc(void *memory, size_t size)
{
    if (fails(ENOMEM))
        return NULL;
    allocations_alive += memory == NULL;
    return __real_realloc(memory, size);
}
void __wrap_free(void *memory) { allocations_alive -= memory != NULL; __real_free(memory); }
long __wrap_syscall(long number, const void *a, unsigned long b, unsigned long c)
{ return fails(EMFILE) ? -1 : __real_syscall(number, a, b, c); }
int __wrap_shm_open(const char *name, int flags, mode_t mode)
{ return fails(ENFILE) ? -1 : __real_shm_open(name, flags, mode); }
int __wrap_ftruncate(int fd, off_t size) { return fails(ENOSPC) ? -1 : __real_ftruncate(fd, size); }
int __wrap_posix_fallocate(int fd, off_t offset, off_t size)
{ return fails(ENOSPC) ? ENOSPC : __real_posix_fallocate(fd, offset, size); }
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{ return fails(ENOMEM) ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset); }
int __wrap_madvise(void *at, size_t size, int advice) { return fails(ENOMEM) ? -1 : __real_madvise(at, size, advice); }
int __wrap_mprotect(void *at, size_t size, int protection) { return fails(ENOMEM) ? -1 : __real_mprotect(at, size, protection); }
int __wrap_fcntl(int fd, int command, long argument) { return fails(EPERM) ? -1 : __real_fcntl(fd, command, argument); }
int __wrap_fstat(int fd, struct stat *file) { return fails(ENOMEM) ? -1 : __real_fstat(fd, file); }
int __wrap_timerfd_create(int clock, int flags) { return fails(EMFILE) ? -1 : __real_timerfd_create(clock, flags); }
/* clang-format on */

/* From now on the call after `calls_before` others fails, and those after it do not. */
static void let_fail(int calls_before)
{
    failing = true;
    calls = 0;
    calls_left = calls_before;
}

/* Whether the call that was to fail has been made. */
static bool has_failed(void)
{
    failing = false;
    return calls_left < 0;
}

static int count_entries(const char *path)
{
    int count = 0;
    DIR *folder = opendir(path);
    CHECK(folder);
    struct dirent *entry;
    while ((entry = readdir(folder))) /* of /dev/shm, which is everybody's, those that the core makes */
        count += strcmp(path, "/dev/shm") != 0 || strncmp(entry->d_name, "lensipc-", 8) == 0;
    CHECK(closedir(folder) == 0);
    return count;
}

/* All of this process's; with a sanitizer, which maps as it likes, those of segments. */
static int count_mappings(void)
{
    int count = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
#ifdef __SANITIZE_ADDRESS__
        count += strstr(line, "lensipc") != NULL;
#else
        count++;
#endif
    CHECK(fclose(maps) == 0);
    return count;
}

struct pair {
    struct lipc_endpoint *sides[2];
};

static int open_pair(struct pair *pair, int form)
{
    int error = 0, segment = lipc_segment_create(form, CAPACITY);
    *pair = (struct pair){0};
    if (segment < 0)
        return segment;
    for (int side = 0; side < 2 && !error; side++)
        pair->sides[side] = lipc_endpoint_open(segment, side, LIPC_WAKEUP_SEMAPHORE, -1, NO_LIMIT, NO_LIMIT, &error);
    CHECK(close(segment) == 0);
    return error;
}

static void close_pair(struct pair *pair)
{
    for (int side = 0; side < 2; side++)
        lipc_endpoint_close(pair->sides[side]);
}

static int send_one(const struct pair *pair, uint64_t number, uint32_t size)
{
    static const char body[4 * CAPACITY];
    const struct lipc_header header = {.correlation = number, .channel = (uint32_t)number % 2, .kind = 1};
    return lipc_send(pair->sides[0], &header, body, size, LIPC_REFUSE);
}

/* Takes all that has been sent. Returns how many messages; their numbers grow. */
static int take_all(const struct pair *pair)
{
    static char buffer[LIPC_INLINE], large[4 * CAPACITY];
    struct lipc_record record;
    uint64_t wanted, last = 0;
    int count = 0;
    for (;;) {
        int got = lipc_recv(pair->sides[1], &record, 1, buffer, sizeof buffer, &wanted);
        CHECK(got >= 0);
        if (wanted)
            CHECK(wanted <= sizeof large && lipc_assemble(pair->sides[1], large, wanted) == 0);
        else if (got) {
            CHECK(record.correlation > last);
            last = record.correlation;
            count++;
        } else if (lipc_outbox_bytes(pair->sides[0]) == 0 && lipc_park(pair->sides[1], 1))
            return count;
        CHECK(lipc_flush(pair->sides[0]) >= 0);
    }
}

static struct pair neighbour;

static void the_neighbour_goes_on(void)
{
    for (uint64_t i = 1; i <= 5; i++)
        CHECK(send_one(&neighbour, i, 3000) == 0);
    CHECK(take_all(&neighbour) == 5);
}

/* ---- tests ---- */

static void each_call_that_opens_a_pair_fails_in_turn(void)
{
    for (int form = LIPC_FORM_MEMFD; form <= LIPC_FORM_SHM; form++) {
        bool failed = true;
        int alive = allocations_alive, maps = count_mappings(), fds = count_entries("/proc/self/fd");
        int names = count_entries("/dev/shm"), which = 0;
        for (; failed; which++) {
            struct pair pair;
            let_fail(which);
            int error = open_pair(&pair, form);
            failed = has_failed();
            /* What the descriptor's seals are told by may fail, too: then it is no segment that can be trusted. */
            CHECK(failed ? error == -ENOMEM || error == -ENOSPC || error == -EMFILE || error == -ENFILE ||
                               error == -EPERM || error == -EPROTO
                         : error == 0);
            if (!failed) {
                CHECK(send_one(&pair, 1, 100) == 0 && take_all(&pair) == 1);
            }
            close_pair(&pair);
            CHECK(allocations_alive == alive && count_mappings() == maps);
            CHECK(count_entries("/proc/self/fd") == fds && count_entries("/dev/shm") == names);
            the_neighbour_goes_on();
        }
        (void)printf("  %d calls failed\n", which - 1);
        CHECK(which > 15);
    }
}

/* A long run of sends into a full ring, in which one allocation after the other fails. */
static void each_allocation_of_a_send_fails_in_turn_and_takes_that_message_only(void)
{
    struct pair pair;
    CHECK(open_pair(&pair, LIPC_FORM_MEMFD) == 0);
    int alive = allocations_alive, which = 0;
    for (bool failed = true; failed; which++) {
        int refused = 0;
        let_fail(which);
        for (uint64_t i = 1; i <= 60; i++) {
            int sent = send_one(&pair, i, i % 20 == 0 ? 3 * CAPACITY : 3000);
            CHECK(sent == 0 || sent == -ENOMEM);
            refused += sent != 0;
        }
        failed = has_failed();
        CHECK(refused == failed);
        CHECK(take_all(&pair) == 60 - refused);
        CHECK(allocations_alive == alive);
    }
    (void)printf("  %d calls failed\n", which - 1);
    CHECK(which > 30);
    close_pair(&pair);
}

static void each_call_that_makes_maps_or_lends_a_slab_fails_in_turn(void)
{
    int alive = allocations_alive, maps = count_mappings(), fds = count_entries("/proc/self/fd"), which = 0;
    for (bool failed = true; failed; which++) {
        struct pair pair;
        CHECK(open_pair(&pair, LIPC_FORM_MEMFD) == 0);
        let_fail(which);
        struct lipc_slabs *slabs = lipc_slabs_create(CAPACITY);
        int added = slabs ? lipc_slab_add(slabs, 1, CAPACITY) : -ENOMEM;
        int64_t hold = added == 0 ? lipc_offer_slab(pair.sides[0], 1) : added;
        int mapped = hold > 0 ? lipc_slab_map(pair.sides[1], 1, lipc_slab_fd(slabs, 1), (uint64_t)hold) : (int)hold;
        struct lipc_loan *loan = mapped < 0 ? NULL : lipc_loan_take(slabs, CAPACITY - LIPC_LOAN_HEAD);
        failed = has_failed();
        CHECK(failed == !loan && lipc_slab_unmap(pair.sides[1], 1) == 0);
        if (loan)
            lipc_loan_drop(loan);
        CHECK(lipc_collect(pair.sides[0]) == 0); /* what was not mapped was not returned */
        lipc_slabs_free(slabs);
        close_pair(&pair);
        CHECK(allocations_alive == alive && count_mappings() == maps && count_entries("/proc/self/fd") == fds);
        the_neighbour_goes_on();
    }
    (void)printf("  %d calls failed\n", which - 1);
    CHECK(which > 14);
}

static void each_call_that_begins_a_view_fails_in_turn_and_the_event_can_be_had_all_the_same(void)
{
    int alive = allocations_alive, maps = count_mappings(), fds = count_entries("/proc/self/fd"), which = 0, refused = 0;
    for (bool failed = true; failed; which++) {
        struct pair pair;
        CHECK(open_pair(&pair, LIPC_FORM_MEMFD) == 0);
        struct lipc_endpoint *main = pair.sides[0], *renderer = pair.sides[1];
        struct lipc_slabs *slabs = lipc_slabs_create(2 * LIPC_BLOCK_LEAST);
        struct lipc_topic *topic = lipc_topic_create();
        CHECK(slabs && topic && lipc_slab_add(slabs, 1, 2 * LIPC_BLOCK_LEAST) == 0);
        lipc_topic_use_slabs(topic, slabs);
        int64_t hold = lipc_offer_slab(main, 1);
        CHECK(hold > 0 && lipc_slab_map(renderer, 1, lipc_slab_fd(slabs, 1), (uint64_t)hold) == 0);
        CHECK(lipc_topic_add(topic, main, 0, LIPC_REFUSE, 0) == 0 && lipc_count_gaps(renderer, 0) == 0);
        lipc_topic_view(topic, main, 1);
        lipc_view_channel(renderer, 0, 1);
        static char body[LIPC_BLOCK_LEAST];
        const struct lipc_header header = {.kind = LIPC_EVENT};
        const struct lipc_part part = {.data = body, .size = sizeof body};
        CHECK(lipc_topic_send(topic, NULL, &header, &part, 1) == 0);
        struct lipc_record record;
        char small[LIPC_INLINE];
        uint64_t wanted;
        CHECK(lipc_recv(renderer, &record, 1, small, sizeof small, &wanted) == 0 && wanted == sizeof body);
        int error;
        let_fail(which);
        struct lipc_view *view = lipc_may_view(renderer) == 1 ? lipc_take_view(renderer, &record, &error) : NULL;
        failed = has_failed();
        CHECK(failed || view);
        if (!view) { /* nothing is lost, and the next attempt succeeds */
            refused++;
            CHECK(lipc_may_view(renderer) == 1);
            view = lipc_take_view(renderer, &record, &error);
        }
        CHECK(view && record.size == sizeof body && lipc_collect(main) == 0 && lipc_held_bytes(main) == sizeof body);
        lipc_view_free(view);
        CHECK(lipc_collect(main) == 0 && lipc_held_bytes(main) == 0);
        (void)lipc_topic_remove(topic, main);
        lipc_topic_free(topic);
        close_pair(&pair);
        lipc_slabs_free(slabs);
        CHECK(allocations_alive == alive && count_mappings() == maps && count_entries("/proc/self/fd") == fds);
    }
    (void)printf("  %d calls failed\n", which - 1);
    CHECK(which == 6 && refused == 3); /* two calls only save a look at the pages */
}

static void a_timer_needs_a_descriptor(void)
{
    let_fail(0);
    CHECK(lipc_timer_create() == -EMFILE && has_failed());
}

/* As many descriptors as there are, and then none to eight more. */
static void at_the_limit_of_descriptors_it_says_so_and_leaves_none(void)
{
    int fds = count_entries("/proc/self/fd") - 1; /* not the one that counts */
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (unsigned more = 0; more <= 8; more++) {
        const struct rlimit little = {.rlim_cur = (rlim_t)fds - 2 + more, .rlim_max = before.rlim_max};
        for (int form = LIPC_FORM_MEMFD; form <= LIPC_FORM_SHM; form++) {
            struct pair pair;
            CHECK(setrlimit(RLIMIT_NOFILE, &little) == 0);
            int error = open_pair(&pair, form), timer = lipc_timer_create();
            CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
            CHECK(error == (more ? 0 : -EMFILE) && (more ? timer >= 0 : timer == -EMFILE));
            CHECK(timer < 0 || close(timer) == 0);
            close_pair(&pair);
        }
        the_neighbour_goes_on();
    }
    CHECK(count_entries("/proc/self/fd") - 1 == fds);
}

static bool tell(const char *path, const char *format, unsigned number)
{
    char text[32];
    int size = snprintf(text, sizeof text, format, number), fd = open(path, O_WRONLY | O_CLOEXEC);
    bool told = fd >= 0 && write(fd, text, (size_t)size) == size;
    if (fd >= 0)
        (void)close(fd);
    return told;
}

/* In a child with a /dev/shm of 1 MiB of its own, where namespaces are to be had. */
static void on_a_full_tmpfs_it_says_so_and_nobody_dies_by_sigbus(void)
{
    enum { PASSED, FAILED, NOT_ALLOWED };
    int status;
    (void)fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned user = getuid(), group = getgid();
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) || !tell("/proc/self/setgroups", "deny", 0) ||
            !tell("/proc/self/uid_map", "0 %u 1", user) || !tell("/proc/self/gid_map", "0 %u 1", group) ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m"))
            _exit(NOT_ALLOWED);
        int count = 0, error;
        struct pair pairs[20];
        while ((error = open_pair(&pairs[count], LIPC_FORM_SHM)) == 0) /* each takes 192 KiB */
            count++;
        bool good = error == -ENOSPC && count == 5;
        for (int i = 0; good && i < count; i++) /* live ones can use all that they have */
            for (uint64_t j = 1; j <= 100 && good; j++)
                good = send_one(&pairs[i], j, 16000) == 0 && take_all(&pairs[i]) == 1;
        close_pair(&pairs[0]);
        good = good && open_pair(&pairs[0], LIPC_FORM_SHM) == 0; /* it recovers by itself */
        for (int i = 0; i < count; i++)
            close_pair(&pairs[i]);
        _exit(good ? PASSED : FAILED);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) != FAILED);
    if (WEXITSTATUS(status) == NOT_ALLOWED)
        (void)printf("  skipped: this user may not make a namespace with a tmpfs of its own\n");
}

int main(void)
{
    CHECK(open_pair(&neighbour, LIPC_FORM_MEMFD) == 0);
    RUN(each_call_that_opens_a_pair_fails_in_turn);
    RUN(each_allocation_of_a_send_fails_in_turn_and_takes_that_message_only);
    RUN(each_call_that_makes_maps_or_lends_a_slab_fails_in_turn);
    RUN(each_call_that_begins_a_view_fails_in_turn_and_the_event_can_be_had_all_the_same);
    RUN(a_timer_needs_a_descriptor);
    RUN(at_the_limit_of_descriptors_it_says_so_and_leaves_none);
    RUN(on_a_full_tmpfs_it_says_so_and_nobody_dies_by_sigbus);
    close_pair(&neighbour);
    CHECK(allocations_alive == 0);
    return 0;
}
