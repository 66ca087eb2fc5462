/* A stand-in for NVIDIA's libnvidia-ml.so.1: its answers are the lines of the file $FAKE_NVML.

     gpu <PCI address>                         the GPUs, in order
     process <address> compute|graphics <pid> <bytes, or -1 for "not available">
     busy <address> <pid> <time stamp, µs> <per cent>
     memory <address> <bytes> <bytes used> <name>
     error <function> <code> [<address>]       that function answers with this code
     hang <function> [<address>]               that function does not return while this line stands

   Every call is added to $FAKE_NVML.calls, as "<function> <address>". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, INSUFFICIENT_SIZE = 7 };
#define MOST 16

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu, compute; } Process;
typedef struct { unsigned pid; unsigned long long at; unsigned sm, mem, enc, dec; } Sample;

static char addresses[MOST][32];

/* Without a file there is no driver: other tests run in the same process. */
static FILE *answers(void) {
    const char *file = getenv("FAKE_NVML");
    return fopen(file ? file : "/dev/null", "r");
}

/* Wait while the file says that this function hangs, as one does whose driver is being reset. */
static void hang(const char *function, const char *address) {
    char line[256], name[64], where[32];
    int hangs = 1;
    while (hangs) {
        FILE *file = answers();
        hangs = 0;
        while (fgets(line, sizeof line, file)) {
            where[0] = '\0';
            if (sscanf(line, "hang %63s %31s", name, where) < 1) continue;
            if (strcmp(name, function) == 0 && (!where[0] || strcmp(where, address) == 0)) hangs = 1;
        }
        fclose(file);
        if (hangs) usleep(5000);
    }
}

/* Note the call; return the code it is to answer with. */
static int called(const char *function, const char *address) {
    char path[4096], line[256], name[64], where[32];
    int code = SUCCESS, found;
    if (!getenv("FAKE_NVML")) return DRIVER_NOT_LOADED;
    snprintf(path, sizeof path, "%s.calls", getenv("FAKE_NVML"));
    FILE *calls = fopen(path, "a");
    fprintf(calls, "%s %s\n", function, address);
    fclose(calls);
    hang(function, address);
    FILE *file = answers();
    while (fgets(line, sizeof line, file)) {
        where[0] = '\0';
        if (sscanf(line, "error %63s %d %31s", name, &found, where) < 2) continue;
        if (strcmp(name, function) == 0 && (!where[0] || strcmp(where, address) == 0)) code = found;
    }
    fclose(file);
    return code;
}

/* Read the GPUs into `addresses`; return how many there are. */
static unsigned gpus(void) {
    char line[256];
    unsigned count = 0;
    FILE *file = answers();
    while (count < MOST && fgets(line, sizeof line, file))
        if (sscanf(line, "gpu %31s", addresses[count]) == 1) count++;
    fclose(file);
    return count;
}

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "fake error %d", code);
    return text;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return called("nvmlInit", ""); }
int nvmlShutdown(void) { return called("nvmlShutdown", ""); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = gpus();
    return called("nvmlDeviceGetCount", "");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= gpus()) return NOT_FOUND;
    *handle = addresses[index];
    return called("nvmlDeviceGetHandle", addresses[index]);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **handle) {
    unsigned count = gpus();
    int code = called("nvmlDeviceGetHandle", address);
    if (code) return code;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(addresses[i], address) == 0) { *handle = addresses[i]; return SUCCESS; }
    return NOT_FOUND;
}

typedef struct { unsigned long long total, free, used; } Memory;

/* Read what is said of a GPU's memory; a GPU of which nothing is said has 8 GiB, all of it free. */
static Memory memory_of(const char *handle, char *name) {
    char line[256], address[32];
    Memory memory = {8ULL << 30, 8ULL << 30, 0};
    FILE *file = answers();
    strcpy(name, "Fake GPU");
    while (fgets(line, sizeof line, file)) {
        unsigned long long total, used;
        char found[64];
        if (sscanf(line, "memory %31s %llu %llu %63[^\n]", address, &total, &used, found) != 4) continue;
        if (strcmp(address, handle)) continue;
        memory = (Memory){total, total - used, used};
        strcpy(name, found);
    }
    fclose(file);
    return memory;
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *into) {
    char name[64];
    *into = memory_of(handle, name);
    return called("nvmlDeviceGetMemoryInfo", handle);
}

int nvmlDeviceGetName(void *handle, char *into, unsigned length) {
    char name[64];
    memory_of(handle, name);
    snprintf(into, length, "%s", name);
    return called("nvmlDeviceGetName", handle);
}

static int listed(const char *handle, const char *kind, unsigned *count, Process *into) {
    char line[256], address[32], found[32];
    unsigned pid, total = 0, room = *count;
    long long memory;
    FILE *file = answers();
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "process %31s %31s %u %lld", address, found, &pid, &memory) != 4) continue;
        if (strcmp(address, handle) || strcmp(found, kind)) continue;
        if (into && total < room) into[total] = (Process){pid, (unsigned long long)memory, 0, 0};
        total++;
    }
    fclose(file);
    *count = total;
    return total > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *into) {
    int code = called("nvmlDeviceGetComputeRunningProcesses", handle);
    return code ? code : listed(handle, "compute", count, into);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, Process *into) {
    int code = called("nvmlDeviceGetGraphicsRunningProcesses", handle);
    return code ? code : listed(handle, "graphics", count, into);
}

int nvmlDeviceGetProcessUtilization(
    void *handle, Sample *into, unsigned *count, unsigned long long since) {
    char line[256], address[32];
    unsigned pid, percent, total = 0, room = *count;
    unsigned long long at;
    int code = called("nvmlDeviceGetProcessUtilization", handle);
    if (code) return code;
    FILE *file = answers();
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "busy %31s %u %llu %u", address, &pid, &at, &percent) != 4) continue;
        if (strcmp(address, handle) || at <= since) continue;
        if (into && total < room) into[total] = (Sample){pid, at, percent, 0, 0, 0};
        total++;
    }
    fclose(file);
    if (!total) return NOT_FOUND;
    *count = total;
    return into ? SUCCESS : INSUFFICIENT_SIZE;
}
