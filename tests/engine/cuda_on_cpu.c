/* CUDA's driver on the CPU, as far as edgevit's session, pycuda under it and tests/engine/cuda_kernels.ptx use it.

   What is queued on a stream is done at once, or kept while it captures; kernels are known by their names. As the real one, it
   wants a current context, tells what ended it at every later call, and gives a forked child nothing. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_CONTEXT = 201, ILLEGAL_ADDRESS = 700,
       CAPTURE_UNSUPPORTED = 900 };
enum { MULTIPROCESSORS = 16, INTEGRATED = 18, MAJOR = 75, MINOR = 76 };

typedef unsigned long long Address;
typedef struct Work { char kernel[16]; void *to; const void *from; size_t bytes; uint64_t argument[4]; struct Work *next; } Work;
typedef struct { int capturing; Work *first, *last; double busy_until; } Stream;
typedef struct { Work *first; } Graph;
typedef struct Allocation { char *at; size_t bytes; int on_host; struct Allocation *next; } Allocation;

static const size_t total = (size_t)1 << 30, reserved = (size_t)64 << 20;
static size_t used;
static pid_t owner;
static int ended_by, the_context;
static __thread int depth; /* of this thread's stack of contexts */
static Allocation *allocations;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static int ready(void) {
    if (getpid() != owner) return NOT_INITIALIZED;
    return depth ? ended_by : INVALID_CONTEXT;
}

static int allocate(void **at, size_t bytes, int on_host) {
    int code = ready();
    if (code) return code;
    pthread_mutex_lock(&lock);
    Allocation *made = malloc(sizeof *made);
    if (!on_host && used + bytes > total - reserved) code = OUT_OF_MEMORY;
    else if (posix_memalign(at, 4096, bytes + !bytes)) code = OUT_OF_MEMORY;
    if (code) {
        free(made);
    } else {
        *made = (Allocation){*at, bytes, on_host, allocations};
        allocations = made;
        if (!on_host) used += bytes;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static int release(void *at) {
    int code = ready();
    if (code) return code;
    code = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (Allocation **place = &allocations; *place; place = &(*place)->next)
        if ((*place)->at == at) {
            Allocation *gone = *place;
            *place = gone->next;
            if (!gone->on_host) used -= gone->bytes;
            free(gone->at);
            free(gone);
            code = SUCCESS;
            break;
        }
    pthread_mutex_unlock(&lock);
    return code;
}

static int known(uint64_t address) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (Allocation *each = allocations; each; each = each->next)
        found |= address >= (uint64_t)each->at && address < (uint64_t)each->at + each->bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

static void sums(const uint64_t *argument) {
    const uint8_t *frame = (const uint8_t *)argument[0];
    float *results = (float *)argument[1];
    uint32_t values = argument[2], classes = argument[3];
    for (uint32_t c = 0; c < classes; c++) {
        uint32_t sum = 0;
        for (uint32_t i = c; i < values; i += classes) sum += frame[i];
        results[c] = (float)sum;
    }
}

static void add_one(const uint64_t *argument) {
    float *results = (float *)argument[0];
    for (uint32_t c = 0; c < (uint32_t)argument[1]; c++) results[c] += 1;
}

static void perform(Stream *stream, const Work *work) {
    if (!work->kernel[0]) {
        memcpy(work->to, work->from, work->bytes);
    } else if (!strcmp(work->kernel, "pause")) {
        double start = stream->busy_until > now() ? stream->busy_until : now();
        stream->busy_until = start + 1e-9 * work->argument[0];
    } else if (!known(work->argument[!strcmp(work->kernel, "sums")])) {
        ended_by = ILLEGAL_ADDRESS;
    } else if (!strcmp(work->kernel, "sums")) {
        sums(work->argument);
    } else {
        add_one(work->argument);
    }
}

static int queue(Stream *stream, Work work) {
    int code = ready();
    if (code) return code;
    if (!stream->capturing) {
        perform(stream, &work);
        return SUCCESS;
    }
    Work *kept = malloc(sizeof *kept);
    *kept = work;
    if (stream->last) stream->last->next = kept;
    else stream->first = kept;
    stream->last = kept;
    return SUCCESS;
}

static void forget(Work *first) {
    while (first) {
        Work *next = first->next;
        free(first);
        first = next;
    }
}

int cuInit(unsigned flags) {
    if (!owner) owner = getpid();
    return getpid() == owner ? SUCCESS : NOT_INITIALIZED;
}
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int index) { *device = 0; return SUCCESS; }
int cuDeviceGetName(char *name, int bytes, int device) { snprintf(name, bytes, "CUDA on the CPU"); return SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = total; return SUCCESS; }
int cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 9; *minor = 0; return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == MULTIPROCESSORS ? 1 : attribute == MAJOR ? 9 : 0; /* INTEGRATED and MINOR among the zeros */
    return SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
          : code == OUT_OF_MEMORY ? "out of memory"
          : code == NOT_INITIALIZED ? "initialization error"
          : code == INVALID_CONTEXT ? "invalid device context"
          : code == CAPTURE_UNSUPPORTED ? "operation not permitted when stream is capturing" : "not supported";
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &the_context;
    return getpid() == owner ? SUCCESS : NOT_INITIALIZED;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return getpid() == owner ? SUCCESS : NOT_INITIALIZED; }
/* CUDA_ON_CPU=push or =pop: these two may tell of an earlier error, too, as CUDA's documentation has it. */
static int tells(const char *call) {
    const char *which = getenv("CUDA_ON_CPU");
    return ended_by && which && !strcmp(which, call) ? ended_by : SUCCESS;
}
int cuCtxPushCurrent_v2(void *context) {
    int code = getpid() == owner ? tells("push") : NOT_INITIALIZED;
    depth += !code;
    return code;
}
int cuCtxPopCurrent_v2(void **context) {
    int code = getpid() != owner ? NOT_INITIALIZED : !depth ? INVALID_CONTEXT : tells("pop");
    depth -= !code;
    if (context) *context = &the_context;
    return code;
}
int cuCtxSynchronize(void) { return ready(); }

int cuMemAlloc_v2(Address *at, size_t bytes) { return allocate((void **)at, bytes, 0); }
int cuMemFree_v2(Address at) { return release((void *)at); }
int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { return allocate(at, bytes, 1); }
int cuMemFreeHost(void *at) { return release(at); }
int cuMemHostGetDevicePointer_v2(Address *at, void *host, unsigned flags) { *at = (Address)host; return ready(); }
int cuMemGetInfo_v2(size_t *left, size_t *all) { *left = total - used; *all = total; return ready(); }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Stream *stream) {
    return queue(stream, (Work){.to = (void *)to, .from = from, .bytes = bytes});
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Stream *stream) {
    return queue(stream, (Work){.to = to, .from = (const void *)from, .bytes = bytes});
}
int cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    int code = ready();
    if (!code) memcpy((void *)to, from, bytes);
    return code;
}

int cuStreamCreate(Stream **stream, unsigned flags) {
    *stream = calloc(1, sizeof **stream);
    return ready();
}
int cuStreamDestroy_v2(Stream *stream) {
    int code = ready();
    if (!code) free(stream);
    return code;
}
int cuStreamQuery(Stream *stream) { return ready(); }
int cuStreamSynchronize(Stream *stream) {
    if (stream->capturing) return CAPTURE_UNSUPPORTED;
    double left = stream->busy_until - now();
    if (left > 0) usleep(1e6 * left);
    return ready();
}
int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    int code = stream ? ready() : CAPTURE_UNSUPPORTED;
    if (!code) stream->capturing = 1;
    return code;
}
int cuStreamEndCapture(Stream *stream, Graph **graph) {
    *graph = malloc(sizeof **graph);
    (*graph)->first = stream->first;
    *stream = (Stream){.busy_until = stream->busy_until};
    return ready();
}
int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, Address flags) {
    *executable = graph ? malloc(sizeof **executable) : NULL;
    if (graph) **executable = *graph;
    return graph ? ready() : INVALID_VALUE;
}
int cuGraphDestroy(Graph *graph) { free(graph); return ready(); }
int cuGraphExecDestroy(Graph *executable) { forget(executable->first); free(executable); return ready(); }
int cuGraphLaunch(Graph *executable, Stream *stream) {
    int code = ready();
    if (!code)
        for (Work *each = executable->first; each; each = each->next) perform(stream, each);
    return code;
}

int cuModuleLoadData(void **module, const void *image) { *module = &the_context; return ready(); }
int cuModuleUnload(void *module) { return ready(); }
int cuModuleGetFunction(const char **function, void *module, const char *name) {
    *function = !strcmp(name, "sums") ? "sums" : !strcmp(name, "add_one") ? "add_one" : "pause";
    return ready();
}
int cuLaunchKernel(const char *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    Work work = {0};
    strcpy(work.kernel, function);
    work.argument[0] = *(uint64_t *)parameters[0];
    if (!strcmp(function, "add_one")) work.argument[1] = *(uint32_t *)parameters[1];
    if (!strcmp(function, "sums")) {
        work.argument[1] = *(uint64_t *)parameters[1];
        work.argument[2] = *(uint32_t *)parameters[2];
        work.argument[3] = *(uint32_t *)parameters[3];
    }
    return queue(stream, work);
}

int cuEventCreate(double **event, unsigned flags) { *event = calloc(1, sizeof **event); return ready(); }
int cuEventDestroy_v2(double *event) { free(event); return ready(); }
int cuEventRecord(double *event, Stream *stream) { *event = now(); return ready(); }
int cuEventSynchronize(double *event) { return ready(); }
int cuEventElapsedTime_v2(float *milliseconds, const double *start, const double *end) {
    *milliseconds = 1e3 * (*end - *start);
    return ready();
}
