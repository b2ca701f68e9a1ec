/* What all kernels share.
 *
 * Plain C over flat arrays: no Python, no torch, no allocation, and no state but the caller's. Built by hatch_build.py
 * where there is a compiler; __init__.py declares the signatures, and each kernel has a plain torch or numpy form beside
 * it in Python. Threads are OpenMP's, those that torch itself uses on a CPU. */
#ifndef OBJECT2VEC_KERNELS_H
#define OBJECT2VEC_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A function is compiled for several generations of processors, and the one that fits is chosen when the library is
 * loaded. Not for one that opens an OpenMP region: what is inside it becomes a function of its own, for the oldest. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#endif
