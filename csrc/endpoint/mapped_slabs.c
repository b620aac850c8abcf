/* SPDX-License-Identifier: MIT
 *
 * The slabs that a renderer has mapped. It only reads them. Main is trusted, but each number of a place is checked all the
 * same: a mistake there would be a read of anything.
 *
 *   label  access                     pairs with  what it orders
 *   M1     subtract  release, acquire M1          all other users' accesses come before the last user unmaps the slab
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

/* Returns the place of a slab among those of the endpoint; their count if there is none of this number. */
static uint32_t find(const struct lipc_endpoint *endpoint, uint32_t number)
{
    uint32_t i = 0;
    while (i < endpoint->slab_count && endpoint->slabs[i]->number != number)
        i++;
    return i;
}

void lipc_mapped_slab_retain(struct lipc_mapped_slab *slab)
{
    atomic_fetch_add_explicit(&slab->users, 1, memory_order_relaxed); /* relaxed: the caller is or has a user */
}

void lipc_mapped_slab_release(struct lipc_mapped_slab *slab)
{
    /* M1 release, acquire: pairs with M1. */
    if (atomic_fetch_sub_explicit(&slab->users, 1, memory_order_acq_rel) != 1)
        return;
    (void)munmap(slab->memory, slab->size);
    free(slab->clean);
    free(slab);
}

int lipc_slab_map(struct lipc_endpoint *endpoint, uint32_t number, int fd, uint64_t hold)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return -errno;
    int seals = fcntl(fd, F_GET_SEALS);
    if (find(endpoint, number) < endpoint->slab_count || seals < 0 || (seals & LIPC_SLAB_SEALS) != LIPC_SLAB_SEALS ||
        file.st_size <= 0)
        return -EPROTO;
    uint64_t size = (uint64_t)file.st_size;
    struct lipc_mapped_slab **larger = realloc(endpoint->slabs, (endpoint->slab_count + 1) * sizeof(void *));
    if (larger)
        endpoint->slabs = larger;
    struct lipc_mapped_slab *slab = malloc(sizeof *slab);
    if (!larger || !slab) {
        free(slab);
        return -ENOMEM;
    }
    /* The pages are there already: to map them all now costs less than a fault for each at the first events. The mapping is
     * not writable yet, because then this would make a private copy of each page. */
    void *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    int error = memory == MAP_FAILED || madvise(memory, size, MADV_DONTFORK) < 0 ? -errno : 0;
    if (!error)
        error = lipc_return_hold(endpoint, hold);
    if (error) {
        if (memory != MAP_FAILED)
            (void)munmap(memory, size);
        free(slab);
        return error;
    }
    *slab = (struct lipc_mapped_slab){.memory = memory, .size = size, .number = number};
    atomic_init(&slab->users, 1);
    endpoint->slabs[endpoint->slab_count++] = slab;
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
    uint32_t at = find(endpoint, number);
    if (at == endpoint->slab_count)
        return 0;
    if (endpoint->assembly.block && endpoint->assembly.place.slab == number)
        return -EBUSY;
    lipc_mapped_slab_release(endpoint->slabs[at]);
    endpoint->slabs[at] = endpoint->slabs[--endpoint->slab_count];
    return 0;
}

void lipc_unmap_slabs(struct lipc_endpoint *endpoint)
{
    while (endpoint->slab_count)
        lipc_mapped_slab_release(endpoint->slabs[--endpoint->slab_count]);
    free(endpoint->slabs);
    endpoint->slabs = NULL;
}

struct lipc_mapped_slab *lipc_slab_of(const struct lipc_endpoint *endpoint, const struct lipc_place *place)
{
    uint32_t at = find(endpoint, place->slab);
    struct lipc_mapped_slab *slab = at < endpoint->slab_count ? endpoint->slabs[at] : NULL;
    if (!slab || place->size == 0 || place->offset > slab->size || place->size > slab->size - place->offset)
        return NULL;
    return slab;
}

int lipc_tell_hold(struct lipc_endpoint *endpoint, uint64_t hold, uint16_t what)
{
    const struct lipc_frame frame = {.total = LIPC_RETURN_BYTES - sizeof frame,
                                     .size = LIPC_RETURN_BYTES - sizeof frame,
                                     .correlation = hold,
                                     .kind = what};
    char *at;
    int claimed = lipc_ring_claim(&endpoint->returns, LIPC_RETURN_BYTES, &at);
    if (claimed <= 0) /* main has given out no more holds than there is room for */
        return -EBADMSG;
    memcpy(at, &frame, sizeof frame);
    lipc_ring_commit(&endpoint->returns, LIPC_RETURN_BYTES);
    return 0;
}
