/* Checks of a kernel's arguments. */

#include "array.h"

enum { WORK = 1 << 14 }; /* entries that are worth a thread */

typedef enum { ENTRY, ROW, SUM } role; /* one value for each entry, column or row */

typedef struct {
    int dtype; /* of the array, or T_ */
    role role;
    int output;
} parameter;

/* Return whether a shape is that of `whole` from one axis to before another. */
static int shape_is(const array *x, const array *whole, int from, int to) {
    if (x->rank != to - from)
        return 0;
    for (int k = from; k < to; ++k)
        if (x->shape[k - from] != whole->shape[k])
            return 0;
    return 1;
}

static int fits(const array *x, const array *whole, role role) {
    int axes = whole->rank;
    if (role != ENTRY && !axes)
        return 0;
    return shape_is(x, whole, role == ROW ? axes - 1 : 0, role == SUM ? axes - 1 : axes);
}

static long size_of(const array *x) {
    long size = 1;
    for (int k = 0; k < x->rank; ++k)
        size *= x->shape[k];
    return size;
}

/* Find the data of arrays that fit to the one at `whole`, all contiguous and apart.

Return the dtype that T stands for, or -1 if an array is of another kind: NumPy then does
the work. Write the number of entries, and of columns, which is 1 for a kernel whose arrays
are all alike. */
static int prepare(const host *h, const parameter *known, int n, int whole,
                   const void *const *objects, const void **data, long *entries,
                   long *columns) {
    const array *arrays[n];
    const char *ends[n];
    int T = T_;
    for (int k = 0; k < n; ++k)
        if (!(arrays[k] = array_in(h, objects[k])))
            return -1;
    *entries = size_of(arrays[whole]);
    *columns = 1;
    for (int k = 0; k < n; ++k) {
        const array *x = arrays[k];
        int dtype = dtype_of(x), wanted = CONTIGUOUS | ALIGNED;
        if (known[k].output)
            wanted |= WRITEABLE;
        if ((x->flags & wanted) != wanted || !fits(x, arrays[whole], known[k].role))
            return -1;
        if (known[k].dtype != T_ && known[k].dtype != dtype)
            return -1;
        if (known[k].dtype == T_ && T != T_ && T != dtype)
            return -1;
        if (known[k].dtype == T_)
            T = dtype;
        if (known[k].role != ENTRY)
            *columns = arrays[whole]->shape[arrays[whole]->rank - 1];
        data[k] = x->data;
        ends[k] = x->data + size_of(x) * width(dtype);
    }
    for (int k = 0; k < n; ++k)
        for (int l = 0; l < n; ++l)
            if (k != l && known[k].output && (const char *)data[k] < ends[l] &&
                (const char *)data[l] < ends[k])
                return -1;
    if (T == T_)
        return FLOAT64;
    return T == FLOAT32 || T == FLOAT64 ? T : -1;
}
