/* SPDX-License-Identifier: MIT
 *
 * Segments: sealed, nameless, doubly mapped; and the files that are none.
 */

#define _GNU_SOURCE

#include "../../csrc/ring/segment.h"
#include "../../csrc/lensipc.h"
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CAPACITY LIPC_CAPACITY_MIN
#define SIZE (LIPC_DATA_OFFSET + 2 * (off_t)CAPACITY)

static int make(int form)
{
    int fd = lipc_segment_create(form, CAPACITY);
    CHECK(fd >= 0);
    return fd;
}

/* What a user of `fd` is told; closes it. */
static int map_and_close(int fd)
{
    struct lipc_mapping mapping;
    int error = lipc_segment_map(fd, &mapping);
    if (!error)
        lipc_segment_unmap(&mapping);
    CHECK(close(fd) == 0);
    return error;
}

static int count_entries(const char *path)
{
    int count = 0;
    DIR *folder = opendir(path);
    CHECK(folder);
    while (readdir(folder))
        count++;
    CHECK(closedir(folder) == 0);
    return count;
}

static void a_sealed_segment_keeps_its_size(void)
{
    int fd = make(LIPC_FORM_MEMFD);
    CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
    CHECK(ftruncate(fd, 2 * SIZE) < 0 && errno == EPERM);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
    CHECK(map_and_close(fd) == 0);
}

static void all_pages_are_reserved_when_it_is_made(void)
{
    for (int form = LIPC_FORM_MEMFD; form <= LIPC_FORM_SHM; form++) {
        struct stat file;
        int fd = make(form);
        CHECK(fstat(fd, &file) == 0 && file.st_size == SIZE && file.st_blocks * 512 >= SIZE);
        CHECK(map_and_close(fd) == 0);
    }
}

static void it_leaves_no_name_and_no_descriptor(void)
{
    int names = count_entries("/dev/shm");
    int descriptors = count_entries("/proc/self/fd");
    for (int form = LIPC_FORM_MEMFD; form <= LIPC_FORM_SHM; form++) {
        int fd = make(form);
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(count_entries("/dev/shm") == names);
        CHECK(map_and_close(fd) == 0);
    }
    CHECK(lipc_segment_create(LIPC_FORM_MEMFD, 1) == -EINVAL);
    CHECK(count_entries("/proc/self/fd") == descriptors);
}

static void a_page_of_a_ring_is_seen_at_both_places(void)
{
    struct lipc_mapping mapping;
    int fd = make(LIPC_FORM_MEMFD);
    CHECK(lipc_segment_map(fd, &mapping) == 0 && close(fd) == 0);
    CHECK(mapping.capacity == CAPACITY);
    for (int ring = 0; ring < 2; ring++)
        for (uint32_t i = 0; i < CAPACITY; i += 4096) {
            mapping.rings[ring][i] = (char)(1 + ring);
            CHECK(mapping.rings[ring][CAPACITY + i] == 1 + ring);
            CHECK(mapping.rings[1 - ring][i] == (ring ? 1 : 0));
        }
    lipc_segment_unmap(&mapping);
}

static void a_capacity_is_a_power_of_two_in_its_range(void)
{
    const uint32_t bad[] = {0, 1, 4096, CAPACITY - 1, CAPACITY + 1, 3 * CAPACITY, LIPC_CAPACITY_MAX + 1, UINT32_MAX,
                            UINT32_C(1) << 31};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(lipc_segment_create(LIPC_FORM_MEMFD, bad[i]) == -EINVAL);
    CHECK(lipc_segment_create(2, CAPACITY) == -EINVAL);
    CHECK(lipc_segment_create(-1, CAPACITY) == -EINVAL);
}

/* A segment whose header has four other bytes at `offset`. */
static int with_header(size_t offset, uint32_t value)
{
    int fd = make(LIPC_FORM_MEMFD);
    CHECK(pwrite(fd, &value, sizeof value, (off_t)offset) == sizeof value);
    return fd;
}

static void another_magic_version_or_capacity_is_refused(void)
{
    CHECK(map_and_close(with_header(offsetof(struct lipc_segment, magic), 0)) == -EPROTO);
    CHECK(map_and_close(with_header(offsetof(struct lipc_segment, version), LIPC_VERSION + 1)) == -EPROTO);
    CHECK(map_and_close(with_header(offsetof(struct lipc_segment, capacity), 2 * CAPACITY)) == -EPROTO);
    CHECK(map_and_close(with_header(offsetof(struct lipc_segment, capacity), CAPACITY)) == 0);
}

/* A memfd with a segment's header. */
static int imitate(off_t size, int seals)
{
    int fd = memfd_create("imitation", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const struct lipc_segment header = {.magic = LIPC_SEGMENT_MAGIC, .version = LIPC_VERSION, .capacity = CAPACITY};
    CHECK(fd >= 0 && ftruncate(fd, size) == 0);
    CHECK(size < (off_t)sizeof header || pwrite(fd, &header, sizeof header, 0) == sizeof header);
    CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void a_file_of_another_size_is_refused(void)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const off_t bad[] = {0, 1, 4096, LIPC_DATA_OFFSET, SIZE - 1, SIZE + 1, SIZE - 4096, SIZE + 4096, SIZE / 2};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(map_and_close(imitate(bad[i], seals)) == -EPROTO);
    CHECK(map_and_close(imitate(LIPC_DATA_OFFSET + 4 * (off_t)CAPACITY, seals)) == -EPROTO);
    CHECK(map_and_close(imitate(SIZE, seals)) == 0);
}

static void a_memfd_that_could_shrink_is_refused(void)
{
    CHECK(map_and_close(imitate(SIZE, 0)) == -EPROTO);
    CHECK(map_and_close(imitate(SIZE, F_SEAL_GROW)) == -EPROTO);
    CHECK(map_and_close(imitate(SIZE, F_SEAL_GROW | F_SEAL_SEAL)) == -EPROTO);
    CHECK(map_and_close(imitate(SIZE, F_SEAL_SHRINK | F_SEAL_GROW)) == -EPROTO);
}

static void what_is_no_file_of_memory_is_refused(void)
{
    struct lipc_mapping mapping;
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(map_and_close(ends[0]) == -EPROTO && map_and_close(ends[1]) == -EPROTO);
    CHECK(lipc_segment_map(-1, &mapping) == -EBADF);
}

static void without_descriptors_it_fails_and_leaves_nothing(void)
{
    int descriptors = count_entries("/proc/self/fd");
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY) == -EMFILE);
    CHECK(lipc_segment_create(LIPC_FORM_SHM, CAPACITY) == -EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(count_entries("/proc/self/fd") == descriptors);
}

static void a_forked_child_has_no_mapping(void)
{
    struct lipc_mapping mapping;
    int fd = make(LIPC_FORM_MEMFD);
    CHECK(lipc_segment_map(fd, &mapping) == 0 && close(fd) == 0);
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident;
        _exit(mincore(mapping.segment, 4096, &resident) < 0 && errno == ENOMEM ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    lipc_segment_unmap(&mapping);
}

static void without_space_it_fails_and_leaves_nothing(void)
{
    int descriptors = count_entries("/proc/self/fd"), names = count_entries("/dev/shm");
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    const struct rlimit little = {.rlim_cur = CAPACITY, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &little) == 0);
    CHECK(lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY) == -EFBIG);
    CHECK(lipc_segment_create(LIPC_FORM_SHM, CAPACITY) == -EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(count_entries("/proc/self/fd") == descriptors && count_entries("/dev/shm") == names);
}

int main(void)
{
    RUN(a_sealed_segment_keeps_its_size);
    RUN(all_pages_are_reserved_when_it_is_made);
    RUN(it_leaves_no_name_and_no_descriptor);
    RUN(a_page_of_a_ring_is_seen_at_both_places);
    RUN(a_capacity_is_a_power_of_two_in_its_range);
    RUN(another_magic_version_or_capacity_is_refused);
    RUN(a_file_of_another_size_is_refused);
    RUN(a_memfd_that_could_shrink_is_refused);
    RUN(what_is_no_file_of_memory_is_refused);
    RUN(without_descriptors_it_fails_and_leaves_nothing);
    RUN(without_space_it_fails_and_leaves_nothing);
    RUN(a_forked_child_has_no_mapping);
    return 0;
}
