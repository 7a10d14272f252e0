/* NumPy's arrays as C sees them, and what the compiled files share.

The fields of an array lie behind the head of its Python object. Their order is part of
NumPy's binary interface: every extension module is compiled with it (PyArrayObject_fields
in numpy/ndarraytypes.h). HEAD is object.__basicsize__; c.py checks both before use. */

#include <stdint.h>

typedef struct {
    char *data;
    int rank;
    intptr_t *shape, *strides; /* strides in bytes */
    void *base, *dtype;
    int flags;
} array;

enum { CONTIGUOUS = 0x1, ALIGNED = 0x100, WRITEABLE = 0x400 }; /* of flags */

enum { FLOAT32, FLOAT64, INT64, DTYPES };
enum { T_ = -1 }; /* the dtype that a kernel finds in its arguments */

/* A function that computes entries or rows [begin, end) of a call. */
typedef void (*part)(const void *call, long begin, long end);

typedef struct {
    void *type, *dtypes[DTYPES]; /* the addresses of NumPy's own objects */
    void (*run)(part, const void *call, long n, long least); /* see pool.c */
} host;

/* Return the array in a Python object, or NULL if it is not exactly an np.ndarray. The
   last pointer of the head is the object's type. */
static inline const array *array_in(const host *h, const void *object) {
    const char *behind = (const char *)object + HEAD;
    return ((void *const *)behind)[-1] == h->type ? (const array *)behind : NULL;
}

static inline int width(int dtype) {
    return dtype == FLOAT32 ? 4 : 8;
}
