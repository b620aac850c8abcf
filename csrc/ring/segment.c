/* SPDX-License-Identifier: MIT
 *
 * Shared memory: main makes and seals it, both sides map and check it.
 *
 * If a process maps a file and another process shrinks the file, the first process dies by SIGBUS. So a memfd is sealed
 * against any change of its size. All its pages are reserved when it is made: if memory is full, making the memfd
 * fails, and no later access can fail. A peer can still punch holes into the file. A hole reads as zeros, and a frame
 * never consists of zeros.
 */

#define _GNU_SOURCE /* for syscall, posix_fallocate, MADV_DONTFORK, F_ADD_SEALS */

#include "ring/segment.h"

#include "lensipc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Older headers lack these names. An older kernel refuses these flags with an error. */
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#define MFD_ALLOW_SEALING 2U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static off_t segment_size(uint64_t capacity)
{
    return (off_t)(LIPC_DATA_OFFSET + 2 * capacity);
}

static bool is_capacity(uint64_t capacity)
{
    return capacity >= LIPC_CAPACITY_MIN && capacity <= LIPC_CAPACITY_MAX && (capacity & (capacity - 1)) == 0;
}

/* Uses syscall(), because glibc has the wrapper only from 2.27 on, and wheels are built for 2.17. */
int lipc_memfd_open(void)
{
    int fd = (int)syscall(SYS_memfd_create, "lensipc", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* a kernel before 6.3 */
        fd = (int)syscall(SYS_memfd_create, "lensipc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

/* Opens a shared-memory object. Its name is random, so nobody can guess it, and O_EXCL refuses an existing object. The
 * name is removed before the memory is used. */
static int open_shm(void)
{
    uint64_t random;
    if (syscall(SYS_getrandom, &random, sizeof random, 0) != sizeof random)
        return -errno;
    char name[32];
    (void)snprintf(name, sizeof name, "/lensipc-%016" PRIx64, random);
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return -errno;
    (void)shm_unlink(name);
    return fd;
}

/* Allocates every page of the file now. A signal handler ends posix_fallocate early and undoes its work, so the call is
 * tried again. */
int lipc_reserve(int fd, off_t size)
{
    int error;
    do
        error = posix_fallocate(fd, 0, size);
    while (error == EINTR);
    return -error;
}

static int initialise(int fd, uint32_t capacity)
{
    struct lipc_segment *segment = mmap(NULL, sizeof *segment, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED)
        return -errno;
    segment->version = LIPC_VERSION;
    segment->capacity = capacity;
    /* G1 release: a segment with the magic is complete. Pairs with G2. */
    atomic_store_explicit(&segment->magic, LIPC_SEGMENT_MAGIC, memory_order_release);
    (void)munmap(segment, sizeof *segment);
    return 0;
}

int lipc_segment_create(int form, uint32_t capacity)
{
    if (!is_capacity(capacity) || (form != LIPC_FORM_MEMFD && form != LIPC_FORM_SHM))
        return -EINVAL;
    int fd = form == LIPC_FORM_MEMFD ? lipc_memfd_open() : open_shm();
    if (fd < 0)
        return fd;
    int error = ftruncate(fd, segment_size(capacity)) < 0 ? -errno : 0;
    if (!error)
        error = lipc_reserve(fd, segment_size(capacity));
    if (!error)
        error = initialise(fd, capacity);
    if (!error && form == LIPC_FORM_MEMFD && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        error = -errno;
    if (error) {
        (void)close(fd);
        return error;
    }
    return fd;
}

/* Whether the file keeps its size. A memfd must have the seals. A shared-memory object cannot be sealed, and its seals
 * read as F_SEAL_SEAL alone: there both sides must trust each other not to shrink it. */
static bool is_fixed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals < 0 ? errno == EINVAL : seals == F_SEAL_SEAL || (seals & SEALS) == SEALS;
}

static bool is_valid(const struct lipc_segment *segment, uint32_t capacity)
{
    /* G2 acquire: pairs with G1. */
    return atomic_load_explicit(&segment->magic, memory_order_acquire) == LIPC_SEGMENT_MAGIC &&
           segment->version == LIPC_VERSION && segment->capacity == capacity;
}

static int map_fixed(char *at, size_t length, int fd, uint64_t offset)
{
    void *mapped = mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
    return mapped == MAP_FAILED ? -errno : 0;
}

int lipc_segment_map(int fd, struct lipc_mapping *mapping)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return -errno;
    /* The capacity comes from the file's size, and the header must agree with it. The header's own value is never
     * used. */
    uint64_t capacity = file.st_size < LIPC_DATA_OFFSET ? 0 : ((uint64_t)file.st_size - LIPC_DATA_OFFSET) / 2;
    if (!is_capacity(capacity) || file.st_size != segment_size(capacity) || !is_fixed(fd))
        return -EPROTO;

    size_t length = LIPC_DATA_OFFSET + 4 * capacity;
    char *base = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    *mapping = (struct lipc_mapping){
        .segment = (struct lipc_segment *)(void *)base,
        .rings = {base + LIPC_DATA_OFFSET, base + LIPC_DATA_OFFSET + 2 * capacity},
        .capacity = (uint32_t)capacity,
        .length = length,
    };
    int error = map_fixed(base, LIPC_DATA_OFFSET, fd, 0);
    for (int i = 0; !error && i < 4; i++) /* ring 0, ring 0 again, ring 1, ring 1 again */
        error = map_fixed(mapping->rings[0] + (uint64_t)i * capacity, capacity, fd,
                          LIPC_DATA_OFFSET + (uint64_t)(i / 2) * capacity);
    if (!error && madvise(base, length, MADV_DONTFORK) < 0)
        error = -errno;
    if (!error && !is_valid(mapping->segment, mapping->capacity))
        error = -EPROTO;
    if (error)
        lipc_segment_unmap(mapping);
    return error;
}

void lipc_segment_unmap(const struct lipc_mapping *mapping)
{
    (void)munmap(mapping->segment, mapping->length);
}
