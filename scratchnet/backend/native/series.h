/* exp and log of one type; functions.h includes this file once for float, once for double.

exp(x) = 2^k exp(r) with |r| <= log(2)/2, by Taylor's series. log(x) = k log(2) + log(1 + f)
with 1 + f in [1/sqrt(2), sqrt(2)]. With s = f / (2 + f),

    log(1 + f) = log((1 + s) / (1 - s)) = 2 (s + s^3/3 + s^5/5 + ...) = f - s (f - R),
    R = 2 (s^2/3 + s^4/5 + ...)

Both series end where the next term is below half a unit of the last digit. */

static inline T NAME(from_bits)(INT bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline INT NAME(bits)(T x) {
    INT bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}

static inline T NAME(exp)(T x) {
    /* Adding this number rounds to a whole number, in the lowest bits of the sum. */
    const T whole = (T)1.5 * ((INT)1 << DIGITS);
    x = x > LARGEST ? LARGEST : x; /* exp is infinite */
    x = x < LEAST ? LEAST : x;     /* exp is zero */
    T shifted = x * (T)1.44269504088896340736 + whole; /* 1 / log(2) */
    T k = shifted - whole, r = (x - k * LOG2) - k * LOG2_REST;
    T y = 1;
    for (int i = TERMS_EXP; i > 0; --i)
        y = 1 + r * y * ((T)1 / i);
    /* 2^k in two factors, since alone it may be too large or too small. */
    INT power = NAME(bits)(shifted) - NAME(bits)(whole), half = power / 2;
    return y * NAME(from_bits)((half + BIAS) << DIGITS) *
           NAME(from_bits)((power - half + BIAS) << DIGITS);
}

static inline T NAME(log)(T x) {
    const INT one = (INT)BIAS << DIGITS, low = NAME(bits)(SQRT_HALF);
    int denormal = x < NORMAL;
    T y = denormal ? x * ((INT)1 << DIGITS) : x;
    INT bits = NAME(bits)(y) + (one - low);
    T k = (T)((bits >> DIGITS) - BIAS) - (denormal ? DIGITS : 0);
    T f = NAME(from_bits)((bits & (((INT)1 << DIGITS) - 1)) + low) - 1;
    T s = f / (2 + f), z = s * s, R = 0;
    for (int i = TERMS_LOG; i > 0; --i)
        R = z * ((T)2 / (2 * i + 1) + R);
    y = k * LOG2 + (f - (s * (f - R) - k * LOG2_REST));
    y = x < 0 ? NAN : y;
    y = x == 0 ? -INFINITY : y;
    return x < INFINITY ? y : x; /* infinity and NaN themselves */
}

#undef T
#undef INT
#undef NAME
#undef DIGITS
#undef BIAS
#undef LEAST
#undef LARGEST
#undef NORMAL
#undef SQRT_HALF
#undef LOG2
#undef LOG2_REST
#undef TERMS_EXP
#undef TERMS_LOG
