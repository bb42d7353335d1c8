/* nm_assert(): a check that the debug build makes and the release build leaves out.
 *
 * It documents the preconditions of functions. Memory safety never depends on it: every index that
 * depends on a moment, a length or a number from outside is also bounded in the release build.
 */
#ifndef NM_ASSERT_H
#define NM_ASSERT_H

#ifdef NETMEASURE_DEBUG
#include <stdio.h>
#include <stdlib.h>
#define nm_assert(condition)                                                                  \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: nm_assert(%s)\n", __FILE__, __LINE__, #condition);        \
            abort();                                                                          \
        }                                                                                     \
    } while (0)
#else
#define nm_assert(condition) ((void)0)
#endif

#endif
