/* Included before all of Lua (-include): its settings for a system without processes and without tmpnam. */
#include <stdio.h>

int lua_wasi_tmpnam(char *name);
FILE *lua_wasi_tmpfile(void);

#define tmpfile lua_wasi_tmpfile
#define l_system(command) ((command) == NULL ? 0 : -1)
#define LUA_TMPNAMBUFSIZE 32
#define lua_tmpnam(buffer, error) ((error) = lua_wasi_tmpnam(buffer))
