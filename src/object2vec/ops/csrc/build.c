/* Identifies the library and chooses its level. Compiled once, for any processor; see build.py. */
#include "api.h"

/* Sizes of structs, which are compared with Python's when the library is loaded. */
EXPORT const int64_t o2v_sizeof_Table = sizeof(Table), o2v_sizeof_ScoringHead = sizeof(ScoringHead),
                     o2v_sizeof_ParameterState = sizeof(ParameterState), o2v_sizeof_PairBatch = sizeof(PairBatch),
                     o2v_sizeof_StepConfig = sizeof(StepConfig), o2v_sizeof_Slot = sizeof(Slot),
                     o2v_sizeof_Lists = sizeof(Lists), o2v_sizeof_Vectors = sizeof(Vectors),
                     o2v_sizeof_Search = sizeof(Search),
                     o2v_sizeof_ValueColumn = sizeof(ValueColumn), o2v_sizeof_ValueSide = sizeof(ValueSide);

EXPORT const char *o2v_build_id(void)
{
    return O2V_BUILD_ID;
}

EXPORT const char *o2v_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl")
                   ? "avx512"
                   : "avx2";
#endif
    return "baseline";
}

EXPORT int64_t o2v_has_threads(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}
