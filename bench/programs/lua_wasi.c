/* What Lua asks of a C library and WASI's does not have. Linked natively too, so that both do the same. */
#include <stdio.h>
#include <string.h>

#ifdef __wasm__
/* The tag of the exceptions that longjmp throws. */
__asm__(".globl __c_longjmp\n.tagtype __c_longjmp i32\n__c_longjmp:\n");
#endif

/* WASI has no common place for temporary files: they lie in the working directory. */
int lua_wasi_tmpnam(char *name) {
    static unsigned count;
    return sprintf(name, "lua_%06u.tmp", ++count) < 0;
}

FILE *lua_wasi_tmpfile(void) {
    char name[32];
    if (lua_wasi_tmpnam(name))
        return NULL;
    FILE *file = fopen(name, "w+b");
    if (file)
        remove(name);
    return file;
}
