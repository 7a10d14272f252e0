/* NumPy's arrays as C sees them, and what the compiled files share.

The fields of an array lie behind the head of its Python object, and so do those of its
dtype. Their order is part of NumPy's binary interface: every extension module is compiled
with it (PyArrayObject_fields and PyArray_Descr in numpy/ndarraytypes.h). HEAD is
object.__basicsize__; c.py checks all of this before use. */

#include <stdint.h>

typedef struct {
    char *data;
    int rank;
    intptr_t *shape, *strides; /* strides in bytes */
    void *base, *dtype;
    int flags;
} array;

typedef struct {
    void *type;
    char kind, letter, byteorder, unused;
} dtype_fields;

enum { CONTIGUOUS = 0x1, ALIGNED = 0x100, WRITEABLE = 0x400 }; /* of flags */

enum { FLOAT32, FLOAT64, INT64, OTHER };
enum { T_ = -1 }; /* the dtype that a kernel finds in its arguments */

/* A function that computes entries or rows [begin, end) of a call. */
typedef void (*part)(const void *call, long begin, long end);

typedef struct {
    void *type; /* np.ndarray */
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

/* Return the dtype of an array. One that was unpickled has a dtype object of its own, so
   the object does not tell. */
static inline int dtype_of(const array *x) {
    const dtype_fields *f = (const dtype_fields *)((const char *)x->dtype + HEAD);
    if (f->byteorder != '=')
        return OTHER;
    if (f->letter == 'f')
        return FLOAT32;
    if (f->letter == 'd')
        return FLOAT64;
    return f->letter == 'q' || (f->letter == 'l' && sizeof(long) == 8) ? INT64 : OTHER;
}
