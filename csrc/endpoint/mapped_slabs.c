/* SPDX-License-Identifier: MIT
 *
 * The slabs that a renderer has mapped. It only reads them. Main is trusted, but each number of a place is checked all the
 * same: a mistake there would be a read of anything.
 */
#define _GNU_SOURCE /* for MAP_POPULATE, MADV_DONTFORK, F_GET_SEALS, MSG_CMSG_CLOEXEC */

#include "endpoint/mapped_slabs.h"

#include "endpoint/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct lipc_mapped_slab *find(const struct lipc_endpoint *endpoint, uint32_t number)
{
    for (uint32_t i = 0; i < endpoint->slab_count; i++)
        if (endpoint->slabs[i].number == number)
            return &endpoint->slabs[i];
    return NULL;
}

int lipc_slab_map(struct lipc_endpoint *endpoint, uint32_t number, int fd, uint64_t hold)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return -errno;
    int seals = fcntl(fd, F_GET_SEALS);
    if (find(endpoint, number) || seals < 0 || (seals & LIPC_SLAB_SEALS) != LIPC_SLAB_SEALS || file.st_size <= 0)
        return -EPROTO;
    uint64_t size = (uint64_t)file.st_size;
    struct lipc_mapped_slab *larger = realloc(endpoint->slabs, (endpoint->slab_count + 1) * sizeof *larger);
    if (!larger)
        return -ENOMEM;
    endpoint->slabs = larger;
    /* The pages are there already: to map them all now costs less than a fault for each at the first events. */
    void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    int error = madvise(memory, size, MADV_DONTFORK) < 0 ? -errno : lipc_return_hold(endpoint, hold);
    if (error) {
        (void)munmap(memory, size);
        return error;
    }
    larger[endpoint->slab_count++] = (struct lipc_mapped_slab){.memory = memory, .size = size, .number = number};
    return 0;
}

int64_t lipc_slab_receive(struct lipc_endpoint *endpoint, int sock, uint32_t number, uint64_t hold, char *data,
                          uint64_t size, int *mapped)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec body = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &body,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_LEN(sizeof(int))}; /* CMSG_SPACE has room for two */
    *mapped = -EMFILE; /* unless a descriptor comes */
    ssize_t got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return -errno;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        int fd;
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        *mapped = lipc_slab_map(endpoint, number, fd, hold);
        (void)close(fd);
    }
    return got;
}

int lipc_slab_unmap(struct lipc_endpoint *endpoint, uint32_t number)
{
    struct lipc_mapped_slab *slab = find(endpoint, number);
    if (!slab)
        return 0;
    if (endpoint->assembly.block && endpoint->assembly.place.slab == number)
        return -EBUSY;
    (void)munmap(slab->memory, slab->size);
    *slab = endpoint->slabs[--endpoint->slab_count];
    return 0;
}

void lipc_unmap_slabs(struct lipc_endpoint *endpoint)
{
    while (endpoint->slab_count) {
        const struct lipc_mapped_slab *last = &endpoint->slabs[--endpoint->slab_count];
        (void)munmap(last->memory, last->size);
    }
    free(endpoint->slabs);
    endpoint->slabs = NULL;
}

const char *lipc_place_memory(const struct lipc_endpoint *endpoint, const struct lipc_place *place)
{
    const struct lipc_mapped_slab *slab = find(endpoint, place->slab);
    if (!slab || place->size == 0 || place->offset > slab->size || place->size > slab->size - place->offset)
        return NULL;
    return slab->memory + place->offset;
}

int lipc_return_hold(struct lipc_endpoint *endpoint, uint64_t hold)
{
    /* Any kind but 0 makes a frame valid. */
    const struct lipc_frame frame = {.total = LIPC_RETURN_BYTES - sizeof frame,
                                     .size = LIPC_RETURN_BYTES - sizeof frame,
                                     .correlation = hold,
                                     .kind = LIPC_EVENT};
    char *at;
    int claimed = lipc_ring_claim(&endpoint->returns, LIPC_RETURN_BYTES, &at);
    if (claimed <= 0) /* main has given out no more holds than there is room for */
        return -EBADMSG;
    memcpy(at, &frame, sizeof frame);
    lipc_ring_commit(&endpoint->returns, LIPC_RETURN_BYTES);
    return 0;
}
