/* exp and log in plain arithmetic, so that compilers make vectors of them.

The C library computes them one by one, five times as slowly. Errors are below one unit of
the last digit; NaN, infinities, zeros and denormal numbers give what the C library gives.
LOG2 + LOG2_REST is log(2), and k * LOG2 is exact. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define T float
#define INT int32_t
#define NAME(f) f##_float
#define DIGITS 23
#define BIAS 127
#define LEAST -104.f
#define LARGEST 89.f
#define NORMAL 0x1p-126f
#define SQRT_HALF 0x1.6a09e6p-1f
#define LOG2 0x1.62e4p-1f
#define LOG2_REST 0x1.7f7d1cp-20f
#define TERMS_EXP 7
#define TERMS_LOG 5
#include "series.h"

#define T double
#define INT int64_t
#define NAME(f) f##_double
#define DIGITS 52
#define BIAS 1023
#define LEAST -746.
#define LARGEST 710.
#define NORMAL 0x1p-1022
#define SQRT_HALF 0x1.6a09e667f3bcdp-1
#define LOG2 0x1.62e42feep-1
#define LOG2_REST 0x1.a39ef35793c76p-33
#define TERMS_EXP 13
#define TERMS_LOG 12
#include "series.h"

#define exp(x) _Generic((x), float: exp_float, default: exp_double)(x)
#define log(x) _Generic((x), float: log_float, default: log_double)(x)
#define sqrt(x) _Generic((x), float: sqrtf, default: (sqrt))(x)
