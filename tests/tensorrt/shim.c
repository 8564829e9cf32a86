/* TensorRT's Python module loads libnvinfer, libnvonnxparser and libnvinfer_plugin and calls a handful of C
 * functions in them. Each stand-in made from this file passes those on to the libraries of TensorRT-RTX, whose
 * builder needs neither GPU nor driver. Compiled three times, with -DLIBRARY="..." and one of -DINFER, -DPARSER,
 * -DPLUGIN. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef PLUGIN
static void *entry(const char *name) {
    static void *library;
    if (!library) library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "test bed: %s\n", dlerror());
        abort();
    }
    return found;
}

/* The module passes on the version that it was made for; the library wants its own. */
static int32_t version(const char *function) { return ((int32_t (*)(void))entry(function))(); }
#endif

#ifdef INFER
typedef void *(*create)(void *, int32_t);
int32_t getInferLibVersion(void) { return version("getInferLibVersion"); }
void *createInferBuilder_INTERNAL(void *logger, int32_t wanted) {
    (void)wanted;
    return ((create)entry("createInferBuilder_INTERNAL"))(logger, version("getInferLibVersion"));
}
void *createInferRuntime_INTERNAL(void *logger, int32_t wanted) {
    (void)wanted;
    return ((create)entry("createInferRuntime_INTERNAL"))(logger, version("getInferLibVersion"));
}
void *createInferRefitter_INTERNAL(void *engine, void *logger, int32_t wanted) {
    (void)wanted;
    return ((void *(*)(void *, void *, int32_t))entry("createInferRefitter_INTERNAL"))(engine, logger, version("getInferLibVersion"));
}
void *getBuilderPluginRegistry(int capability) { return ((void *(*)(int))entry("getBuilderPluginRegistry"))(capability); }
void *getPluginRegistry(void) { return ((void *(*)(void))entry("getPluginRegistry"))(); }
#endif

#ifdef PARSER
int32_t getNvOnnxParserVersion(void) { return version("getNvOnnxParserVersion"); }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int wanted) {
    (void)wanted;
    return ((void *(*)(void *, void *, int))entry("createNvOnnxParser_INTERNAL"))(network, logger, version("getNvOnnxParserVersion"));
}
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int wanted) {
    (void)wanted;
    return ((void *(*)(void *, void *, int))entry("createNvOnnxParserRefitter_INTERNAL"))(refitter, logger,
                                                                                           version("getNvOnnxParserVersion"));
}
#endif

#ifdef PLUGIN
bool initLibNvInferPlugins(void *logger, const char *name_space) {
    (void)logger;
    (void)name_space;
    return true;
}
#endif
