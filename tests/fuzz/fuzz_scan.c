/* SPDX-License-Identifier: MIT
 *
 * The scan under libFuzzer, guided by coverage. From the root, with Debian's clang and libclang-rt-dev:
 *
 *   clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
 *       tests/fuzz/fuzz_scan.c csrc/scan.c csrc/effects.c csrc/keys.c -o fuzz_scan
 *   python tests/fuzz/corpus.py corpus
 *   ./fuzz_scan -seed=1 -runs=10000000 -max_len=4096 -timeout=1 -rss_limit_mb=256 -dict=tests/fuzz/pickle.dict corpus
 *
 * The first byte of an input says where it is cut into pieces; the rest is the message.
 */
#include "../../csrc/lensipc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t cut = data[0];
    const char *message = (const char *)data + 1;
    size--;
    struct lipc_scan_report report = {0, NULL};
    int found = lipc_scan(message, size, &report);
    if (found < 0 ? report.reason == NULL || report.offset > size : found > 1 || report.reason != NULL)
        abort();
    if (cut >= size)
        return 0;
    /* Pieces on the heap, so that a byte beyond one is seen. */
    char *first = malloc(cut ? cut : 1);
    char *second = malloc(size - cut);
    memcpy(first, message, cut);
    memcpy(second, message + cut, size - cut);
    struct lipc_part parts[2] = {{first, cut}, {second, size - cut}};
    if (lipc_scan_parts(parts, 2, &report) >= 0 && found < 0)
        abort();
    free(first);
    free(second);
    return 0;
}
